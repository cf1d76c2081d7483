"""`/api/resilience/clients`: the clients that ask most of each rate limit. For operators alone: it names them."""

from typing import Annotated, Any

from pydantic import Field

from gateway.control.api.operation import Call, Operation
from gateway.control.models.shapes import Answer, Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.clients import BusyView

WINDOW = 60.0


class BusyClientEntry(Answer):
    """One client, as it is limited: an IPv4 address, an IPv6 /64, or a tenant or consumer."""

    client: str
    requests: Annotated[float, Field(ge=0, description="Decisions a second")]
    refused: Annotated[float, Field(ge=0, description="Of these, refusals")]


class BusyPolicy(Answer):
    """The busiest clients of one rate limit."""

    policy: str
    clients: Annotated[list[BusyClientEntry], Field(description="The busiest first; at most 20")]


class BusyClients(Answer):
    """Who asks most. The counts are estimates: see docs/console.md."""

    kept: Annotated[int, Field(ge=0, description="Clients of each rate limit that a worker keeps; 0: TOP_CLIENTS=0")]
    window_seconds: Annotated[float, Field(description="The rates are of at most so long")]
    policies: list[BusyPolicy]


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operation that lists the busiest clients."""
    view = gateway.busy
    return [] if view is None else [_listed(view)]


def _listed(view: BusyView) -> Operation[Any, Any]:
    async def clients(_: Call[Nothing, Nothing]) -> BusyClients:
        """The busiest clients of every rate limit."""
        return BusyClients(
            kept=view.kept,
            window_seconds=WINDOW,
            policies=[
                BusyPolicy(
                    policy=policy,
                    clients=[
                        BusyClientEntry(
                            client=each.client, requests=round(each.requests, 3), refused=round(each.refused, 3)
                        )
                        for each in found
                    ],
                )
                for policy, found in view.clients().items()
            ],
        )

    return Operation(
        "GET", "/api/resilience/clients", "listBusiestClients", "Who asks most of each rate limit",
        BusyClients, clients, Nothing, Nothing, private=True,
    )  # fmt: skip
