"""What the control plane sees of tenants at all workers: this one's figures of now, and the others' as they were last
told. What is about keys is the same whichever worker is asked.

A worker tells of tenants that have something to tell, those of the file first, and of `MOST_TOLD` at most. The figures
of further ones are then those of the worker that is asked.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from gateway.control.ports.callers import CallersView, KeyView, NewKeyView, TenantView
from gateway.worker.host import Host

MOST_TOLD = 1000
_KEY = "tenants"


class WholeCallers:
    """A `CallersView` made of `own`, which is this process's, and of what `host` was told."""

    def __init__(self, own: CallersView, host: Host) -> None:
        self._own = own
        self._host = host

    @property
    def day(self) -> str:
        """The present day of UTC."""
        return self._own.day

    @property
    def tenants(self) -> Iterator[TenantView]:
        """The tenants that this worker knows, with the figures of all."""
        others = [each[_KEY] for each in self._host.others if each.get(_KEY)]
        for tenant in self._own.tenants:
            told = [each[tenant.tenant] for each in others if tenant.tenant in each]
            yield tenant._replace(
                in_flight=tenant.in_flight + sum(each[0] for each in told),
                requests=tenant.requests + sum(each[1] for each in told),
                refused={
                    reason: count + sum(each[2].get(reason, 0) for each in told)
                    for reason, count in tenant.refused.items()
                },
            )

    async def keys(self) -> Sequence[KeyView]:
        """See `CallersView.keys`."""
        return await self._own.keys()

    async def add_key(self, key: NewKeyView) -> bool:
        """See `CallersView.add_key`."""
        return await self._own.add_key(key)

    async def expire_key(self, key_id: str, not_after: float) -> bool:
        """See `CallersView.expire_key`."""
        return await self._own.expire_key(key_id, not_after)

    async def revoke_key(self, key_id: str) -> bool:
        """See `CallersView.revoke_key`."""
        return await self._own.revoke_key(key_id)


def told_of_tenants(own: CallersView) -> dict[str, object]:
    """What a worker says of its tenants, for the views of the others."""
    told = (
        (each.tenant, [each.in_flight, each.requests, {name: count for name, count in each.refused.items() if count}])
        for each in own.tenants
        if each.requests or each.in_flight or any(each.refused.values())
    )
    return {_KEY: dict(islice(told, MOST_TOLD))}
