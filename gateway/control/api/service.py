"""Orders to the service as a whole: `gateway reload` reads the configuration anew, `gateway upgrade` runs new code."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.control.api import audit
from gateway.control.api.operation import Call, Operation
from gateway.control.models.shapes import Answer, Input, Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.gateway import ServiceChange
from gateway.control.serving.problem import RefusalError
from gateway.control.serving.time_limit import be_patient

# The workers of a new configuration have to start. Whoever asked is not kept waiting for longer than this.
_WAIT = 25.0


class Reload(Input):
    """What to do with the configuration as the files have it now."""

    dry_run: Annotated[bool, Field(description="Only check it, and say what would change")] = False


class ServiceCommand(Answer):
    """What was done."""

    action: Literal["reload", "upgrade"]
    done: Annotated[bool, Field(description="It is in effect; false: a dry run, or still under way")]
    under_way: Annotated[
        bool,
        Field(description="It takes longer, and nothing is known yet; the log and /api/resilience/workers tell later"),
    ]
    differences: Annotated[list[str], Field(description="The settings that are other ones, one line each, no secrets")]
    notices: Annotated[list[str], Field(description="What is probably not meant, and no reason to refuse")]


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on the service."""

    async def reload(call: Call[Nothing, Reload]) -> ServiceCommand:
        """Read the configuration anew."""
        commands = gateway.service_commands
        if commands is None:
            raise RefusalError(409, "This process has no supervisor.", reason="no_supervisor")
        return await _done(call, "reload", commands.reload(dry_run=call.body.dry_run))

    async def upgrade(call: Call[Nothing, Nothing]) -> ServiceCommand:
        """Run the new code."""
        commands = gateway.service_commands
        if commands is None:
            raise RefusalError(409, "This process has no supervisor.", reason="no_supervisor")
        return await _done(call, "upgrade", commands.upgrade())

    fixed: dict[str, Any] = {"query": Nothing, "answer": ServiceCommand, "changes": True, "refusals": (409,)}
    return [
        Operation(
            "POST", "/api/admin/reload", "reloadConfiguration",
            "Read the configuration anew and let new workers serve with it; with any problem nothing changes",
            run=reload, body=Reload, **fixed,
        ),
        Operation(
            "POST", "/api/admin/upgrade", "upgradeCode",
            "Run the code that is installed now, in the same process, and let new workers serve with it",
            run=upgrade, body=Nothing, **fixed,
        ),
    ]  # fmt: skip


async def _done(
    call: Call[Any, Any], action: Literal["reload", "upgrade"], order: Awaitable[ServiceChange]
) -> ServiceCommand:
    be_patient(call.request, _WAIT + 2.0)
    task = asyncio.ensure_future(order)
    # What was ordered goes on when whoever ordered it has left.
    done, _ = await asyncio.wait([task], timeout=_WAIT)
    change = task.result() if done else ServiceChange(done=False)
    dry = getattr(call.body, "dry_run", False)
    if not dry:
        outcome = "refused" if change.problems else "done" if change.done else "under way"
        audit.record(action, call, before=None, after=outcome, scope="process")
    if change.problems:
        detail = f"Nothing was changed: {change.problems[0]}"
        more = len(change.problems) - 1
        raise RefusalError(
            409,
            f"{detail}, and {more} more" if more else detail,
            reason="configuration_refused",
            members={"problems": list(change.problems), "differences": list(change.differences)},
        )
    return ServiceCommand(
        action=action,
        done=change.done,
        under_way=not done,
        differences=list(change.differences),
        notices=list(change.notices),
    )
