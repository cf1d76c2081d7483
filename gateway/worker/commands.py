"""Orders to the service as a whole, which the control plane of a worker passes on to the supervisor."""

from typing import Any

from gateway.control.ports.gateway import ServiceChange
from gateway.ipc.channel import CallFailed, ChannelLost
from gateway.worker.supervisor import Supervisor


class SupervisorCommands:
    """See `gateway.control.ports.gateway.ServiceCommands`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def reload(self, *, dry_run: bool) -> ServiceChange:
        """See `ServiceCommands.reload`."""
        return await self._order("reload", {"dry_run": dry_run})

    async def upgrade(self) -> ServiceChange:
        """See `ServiceCommands.upgrade`."""
        return await self._order("upgrade", None)

    async def _order(self, operation: str, body: Any) -> ServiceChange:
        try:
            change = await self._supervisor.call(operation, body)
        except (ChannelLost, CallFailed) as error:
            return ServiceChange(done=False, problems=(f"the supervisor does not do it: {error}",))
        return ServiceChange(
            change["done"], tuple(change["problems"]), tuple(change["differences"]), tuple(change["notices"])
        )
