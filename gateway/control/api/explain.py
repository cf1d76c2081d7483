"""`/api/resilience/explain`: what would become of a request, without sending it."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from gateway.control.access import peer_of
from gateway.control.api.operation import Call, Operation
from gateway.control.models.explain import Explanation
from gateway.control.models.shapes import Input, Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.serving.problem import RefusalError
from gateway.syntax import hosts

_ADDRESSES = ({"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"})


def _address(text: str | None) -> str | None:
    if text is not None and hosts.address(text) is None:
        raise ValueError("no IP address")
    return text


def _allowed(text: str) -> dict[str, Any]:
    return {"x-allowed": text}


class Asked(Input):
    """The request that is to be explained."""

    path: Annotated[
        str,
        Field(
            min_length=1, max_length=2048, pattern=r"^/[\x21-\x7e]*$",
            description="As in the request line, its query included",
            json_schema_extra=_allowed("a path in visible ASCII that begins with '/'"),
        ),
    ] = "/"  # fmt: skip
    method: Annotated[
        str,
        Field(
            min_length=1, max_length=32, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", description="In any case",
            json_schema_extra=_allowed("a method"),
        ),
    ] = "GET"  # fmt: skip
    client: Annotated[
        str | None,
        AfterValidator(_address),
        Field(
            description="Address of the client; yours",
            json_schema_extra={**_allowed("an IP address"), "anyOf": [*_ADDRESSES, {"type": "null"}]},
        ),
    ] = None
    host: Annotated[
        str | None,
        Field(
            max_length=255, pattern=r"^[A-Za-z0-9._:\[\]-]*$", description="What its Host says; what yours does",
            json_schema_extra=_allowed("a host with or without port"),
        ),
    ] = None  # fmt: skip
    consumer: Annotated[
        str | None,
        Field(
            min_length=1, max_length=255, pattern=r"^[!-~]+$",
            description="Whose credential it has, as X-Consumer names it; nobody's. For operators alone",
            json_schema_extra=_allowed("the name of a consumer"),
        ),
    ] = None  # fmt: skip
    tenant: Annotated[
        str | None,
        Field(
            max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
            description="Its tenant; as the file says. For operators alone",
            json_schema_extra=_allowed("the name of a tenant"),
        ),
    ] = None  # fmt: skip
    scope: Annotated[
        str | None,
        Field(
            max_length=1024, pattern=r"^[ !#-\[\]-~]*$",
            description="The scopes of its credential, with blanks between them; as the file says. For operators alone",
            json_schema_extra=_allowed("scopes"),
        ),
    ] = None  # fmt: skip


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operation that says what would become of a request."""

    async def explain(call: Call[Asked, Nothing]) -> Explanation:
        """What would become of a request. Raises `RefusalError` (400) where the host is none."""
        asked = call.query
        method = asked.method.upper()
        host = hosts.host(asked.host if asked.host is not None else call.request.host)
        if host is None:
            raise RefusalError(400, "The parameter host is no host.", members={"parameter": "host"})
        client = asked.client or peer_of(call.request.remote) or "127.0.0.1"
        who = asked.consumer or "", asked.tenant or "", asked.scope or ""
        found = dict(await gateway.explainer.explain(method, host, asked.path, client, *who))
        request = {"method": method, "host": host, "path": asked.path, "client": found.pop("client")}
        worker = None if gateway.view.host is None else gateway.view.host.worker
        return Explanation.model_validate({"request": request, "worker": worker, **found})

    return [
        Operation(
            "GET", "/api/resilience/explain", "explain", "What would become of a request now, and why",
            # Who the customers are, and how much each has left, is nobody else's business.
            Explanation, explain, Asked, Nothing, private_query=("consumer", "tenant", "scope"),
        )
    ]  # fmt: skip
