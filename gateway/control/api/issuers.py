"""The issuers of tokens and the state of their keys. For operators alone: it says whom the gateway believes."""

from typing import Any

from gateway.control.api.operation import Call, Operation
from gateway.control.models.issuers import Issuer, Issuers
from gateway.control.models.shapes import Nothing
from gateway.control.parts import ControlledGateway

ISSUERS = "/api/resilience/issuers"


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operation on issuers. A gateway whose routes take no tokens has none."""
    if not list(gateway.view.issuers):
        return []

    async def listed(_: Call[Nothing, Nothing]) -> Issuers:
        """Each issuer with its keys."""
        issuers = [
            Issuer(
                name=each.name,
                issuer=each.issuer,
                algorithms=list(each.algorithms),
                keys=list(each.keys),
                usable=each.usable,
                age_seconds=None if each.age is None else round(each.age, 1),
                next_fetch_seconds=None if each.next_in is None else round(each.next_in, 1),
                problem=each.problem,
            )
            for each in gateway.view.issuers
        ]
        return Issuers(count=len(issuers), issuers=issuers)

    return [
        Operation(
            "GET", ISSUERS, "listIssuers", "The issuers of tokens, and their keys", Issuers, listed, Nothing, Nothing,
            private=True,
        )
    ]  # fmt: skip
