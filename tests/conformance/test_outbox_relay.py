"""The relay of the outbox with either backend, and targets that the test plays."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from gateway.config.sections.deliver.model import DeliverConfig
from gateway.journal import outbox
from gateway.journal.outbox import Message, Shown
from gateway.journal.port import Journal, JournalUnavailable
from gateway.outbox.relay import Relay
from gateway.proxy.errands.errand import Answered, Outcomes
from gateway.proxy.errands.own_requests import OwnRequest, OwnRequests
from gateway.proxy.routes.topology import Route
from tests.conformance.journals import TIMEOUT, Journals


class ARoute:
    """What the relay looks at."""

    def __init__(self, **deliver: Any) -> None:
        self.name = self.service = "hooks"
        self.config = self
        self.deliver = DeliverConfig(jitter=0.0, **deliver)


class Target:
    """Answers as `answer` says."""

    def __init__(self, answer: Callable[[], Outcomes]) -> None:
        self.sent: list[OwnRequest] = []
        self._answer = answer

    async def send(self, _upstream: str, request: OwnRequest) -> Outcomes:
        self.sent.append(request)
        return self._answer()


class Forgetful:
    """A journal that has kept a result, and cannot say so: the connection breaks."""

    def __init__(self, journal: Journal, *, kept: bool) -> None:
        self.breaks = 0
        self._journal = journal
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def transact(self, operation: Any) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(self._transact(operation))

    async def _transact(self, operation: Any) -> Any:
        if not self.breaks:
            return await self._journal.transact(operation)
        self.breaks -= 1
        if self._kept:
            await self._journal.transact(operation)
        raise JournalUnavailable("unreachable", "the connection broke", unsure=True)


@asynccontextmanager
async def running(journal: Any, target: Target, **deliver: Any) -> AsyncIterator[Relay]:
    relay = Relay(journal, cast("OwnRequests", target), [cast("Route", ARoute(**deliver))], random.Random(1))
    relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def put(journals: Journals) -> str:
    message = Message("msg_1", "hooks", None, "POST", b"/in", b"", b"body", "correlation-1")
    await (await journals.replica()).transact(outbox.insert(message))
    return message.id


async def becomes(journals: Journals, message_id: str, state: str) -> Shown:
    async with asyncio.timeout(TIMEOUT):
        while True:
            found = await (await journals.replica()).read(outbox.show(message_id))
            if found is not None and found.state == state:
                return found
            await asyncio.sleep(0.02)


async def test_a_message_that_breaks_the_gateway_itself_has_no_more_attempts_than_any_other(journals: Journals) -> None:
    def broken() -> Outcomes:
        raise KeyError("a defect that this message meets")

    made, target = await put(journals), Target(broken)
    async with running(await journals.replica(), target, schedule=(0.1,)):
        dead = await becomes(journals, made, "dead")
    assert (dead.attempts, len(target.sent)) == (2, 2)
    assert dead.error == "internal_error: KeyError"


async def test_a_result_that_the_journal_could_not_take_is_written_when_it_can(journals: Journals) -> None:
    """In place of a second delivery."""
    made = await put(journals)
    journal = Forgetful(await journals.replica(), kept=False)

    def taken() -> Outcomes:
        journal.breaks = 2
        return Answered(200, b"", None, whole=True)

    target = Target(taken)
    async with running(journal, target):
        done = await becomes(journals, made, "delivered")
    assert (done.attempts, len(target.sent), journal.breaks) == (1, 1, 0)


async def test_a_result_that_was_written_without_a_word_is_nobodys_late_one(journals: Journals) -> None:
    made = await put(journals)
    journal = Forgetful(await journals.replica(), kept=True)

    def taken() -> Outcomes:
        journal.breaks = 1
        return Answered(200, b"", None, whole=True)

    async with running(journal, Target(taken)) as relay:
        await becomes(journals, made, "delivered")
        async with asyncio.timeout(TIMEOUT):
            while relay.under_way:
                await asyncio.sleep(0.02)
        assert relay.targets[0].counts["late"] == 0
