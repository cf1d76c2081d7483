"""The busiest clients of all workers: this one's of now, and the others' as each told a second ago."""

import time
from collections.abc import Mapping, Sequence

from gateway.control.ports.clients import BusyClient
from gateway.telemetry.busiest import Busiest
from gateway.worker.host import Host

SHOWN = 20


class WholeBusy:
    """`host` None: this process is the whole gateway."""

    def __init__(self, own: Busiest, host: Host | None) -> None:
        self._own = own
        self._host = host

    @property
    def kept(self) -> int:
        """How many clients of each rate limit a worker keeps."""
        return self._own.most

    def clients(self) -> Mapping[str, Sequence[BusyClient]]:
        """By rate limit, the busiest of all workers together. Of the others it has those that were told."""
        merged: dict[str, dict[str, list[float]]] = {}
        told = [dict(self._own.read(self._own.most, time.monotonic()))]
        if self._host is not None:
            told += [each["busy"] for each in self._host.others if each.get("busy")]
        for policies in told:
            for policy, clients in policies.items():
                found = merged.setdefault(policy, {})
                for client, requests, refused in clients:
                    counts = found.setdefault(client, [0.0, 0.0])
                    counts[0] += requests
                    counts[1] += refused
        return {
            policy: sorted((BusyClient(name, *counts) for name, counts in found.items()), key=_rank)[:SHOWN]
            for policy, found in merged.items()
        }


def told_of_busy(own: Busiest) -> dict[str, object]:
    """What a worker says of its busiest clients, for the views of the others."""
    found = {policy: clients for policy, clients in own.read(SHOWN, time.monotonic()) if clients}
    return {"busy": found} if found else {"busy": None}


def _rank(client: BusyClient) -> tuple[float, str]:
    return -client.requests, client.client
