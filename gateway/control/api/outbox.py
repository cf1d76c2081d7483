"""The outbox: what waits, what was delivered or given up, and delivering it again. No message's content is told."""

import re
from typing import Annotated, Any

from pydantic import Field

from gateway.control.api import audit
from gateway.control.api.idempotency import available
from gateway.control.api.operation import Call, Operation
from gateway.control.api.pages import OLDER, PageCount, instant, one, page, seconds, seconds_or_none
from gateway.control.models.outbox import (
    MESSAGE_ID,
    OutboxCount,
    OutboxMessage,
    OutboxMessages,
    Replayed,
    ReplayRange,
    Target,
)
from gateway.control.models.shapes import Input, Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.outbox import MessageState, MessageView, OutboxView
from gateway.control.serving.problem import RefusalError
from gateway.telemetry.log.render import rfc3339

PATH = "/api/resilience/outbox"
_ID = re.compile(MESSAGE_ID)


class WhichMessages(Input):
    """Which messages are asked for."""

    state: Annotated[MessageState | None, Field(description="Only those in one state")] = None
    target: Target = None
    before: Annotated[str | None, Field(pattern=MESSAGE_ID, description=OLDER)] = None
    count: PageCount = 50


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on the outbox. A gateway without a journal has none."""
    view = gateway.outbox
    return [] if view is None else [_listed(view), _shown(view), *_replays(view)]


def _listed(view: OutboxView) -> Operation[Any, Any]:
    async def listed(call: Call[WhichMessages, Nothing]) -> OutboxMessages:
        """All messages counted, and a page of them."""
        query = call.query
        counts = await available(view.counts())
        which = (query.state or "", query.target or "", query.before or "")
        messages, next_page = await page(lambda most: view.messages(*which, most), query.count)
        return OutboxMessages(
            pending=sum(each.messages for each in counts if each.state in {"queued", "sending"}),
            dead=sum(each.messages for each in counts if each.state == "dead"),
            max_pending=view.max_pending,
            pending_bytes=sum(each.bytes for each in counts if each.state in {"queued", "sending"}),
            max_bytes=view.max_bytes,
            targets=[
                OutboxCount(
                    target=each.target,
                    state=each.state,
                    messages=each.messages,
                    oldest_seconds=seconds(each.oldest),
                    bytes=each.bytes,
                    orphaned=each.orphaned,
                )
                for each in counts
            ],
            messages=[_message(each) for each in messages],
            next_page=next_page,
        )

    return Operation(
        "GET", PATH, "listOutbox", "The messages of the outbox, counted and listed",
        OutboxMessages, listed, WhichMessages, Nothing, refusals=(503,),
    )  # fmt: skip


def _shown(view: OutboxView) -> Operation[Any, Any]:
    async def shown(call: Call[Nothing, Nothing]) -> OutboxMessage:
        """One message."""
        return _message(await _found(view, call))

    return Operation(
        "GET", f"{PATH}/{{message}}", "getOutboxMessage", "What has become of a message",
        OutboxMessage, shown, Nothing, Nothing, refusals=(404, 503),
    )  # fmt: skip


def _replays(view: OutboxView) -> list[Operation[Any, Any]]:
    async def replay(call: Call[Nothing, Nothing]) -> OutboxMessage:
        """Deliver a message again. Raises `RefusalError` (409) while it is being sent."""
        before = await _found(view, call)
        if not await available(view.replay(before.id)):
            raise RefusalError(409, "The message is being sent now: look again when that has ended.", retry_after=1.0)
        audit.record(f"replay message {before.id}", call, before=before.state, after="queued", scope="fleet")
        return _message(await _found(view, call))

    async def replay_range(call: Call[Nothing, ReplayRange]) -> Replayed:
        """Deliver the messages of a time again."""
        body = call.body
        replayed = await available(view.replay_range(body.state, body.target or "", body.since, body.until))
        what = f"replay {body.state} messages{f' of {body.target}' if body.target else ''}"
        span = {"since": body.since, "until": body.until}
        audit.record(what, call, before=span, after={"replayed": replayed}, scope="fleet")
        return Replayed(replayed=replayed)

    return [
        Operation(
            "POST", f"{PATH}/{{message}}/replay", "replayOutboxMessage", "Deliver a message again",
            OutboxMessage, replay, Nothing, Nothing, changes=True, refusals=(404, 409, 503),
        ),
        Operation(
            "POST", f"{PATH}/replay", "replayOutbox", "Deliver the messages of a time again",
            Replayed, replay_range, Nothing, ReplayRange, body_required=True, changes=True, refusals=(503,),
        ),
    ]  # fmt: skip


async def _found(view: OutboxView, call: Call[Any, Any]) -> MessageView:
    return await one(call, "message", _ID, view.message, "message")


def _message(each: MessageView) -> OutboxMessage:
    return OutboxMessage(
        id=each.id,
        target=each.target,
        state=each.state,
        attempts=each.attempts,
        last_status=each.status or None,
        last_error=each.error or None,
        size=each.size,
        correlation_id=each.correlation_id,
        created_time=rfc3339(each.created_at),
        ended_time=instant(each.ended_at),
        next_attempt_in=seconds_or_none(each.due_in),
        orphaned=each.orphaned,
    )
