"""The answer of the API to what would become of a request."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import Count


class ExplainedRequest(Answer):
    """The request that was asked about, as the gateway reads it."""

    method: str
    host: str
    path: str
    client: Annotated[str, Field(description="As it is limited and logged: an IPv4 address or an IPv6 /64")]


class Candidate(Answer):
    """One route, and why it is taken or not."""

    route: str
    host: Annotated[str | None, Field(description="null: any")]
    prefix: str
    methods: Annotated[list[str] | None, Field(description="null: all")]
    matches: bool
    why: str


class Step(Answer):
    """What one policy would say now. `figures` depend on the policy."""

    policy: Annotated[str, Field(description="The name of a gate, or of another step, in the order of the policies")]
    decision: Annotated[
        Literal["allow", "wait", "refuse", "exempt", "none"],
        Field(description="wait: in a queue; exempt: not for this client; none: it does not apply"),
    ]
    detail: str
    status: Annotated[int | None, Field(description="Of the refusal")]
    reason: str | None
    retry_after: float | None
    figures: dict[str, int | float | str]


class Forwarded(Answer):
    """What the upstream would be asked."""

    upstream: str
    path: str
    host: str


class ExplainedEndpoint(Answer):
    """One endpoint that the request could be sent to."""

    endpoint: str
    healthy: bool
    ejected: bool
    out: Annotated[Literal["drained", "disabled"] | None, Field(description="What an operator has done to it")]
    in_flight: Count
    weight: Count


class Explanation(Answer):
    """What would become of the request now. Nothing is sent and nothing is spent."""

    request: ExplainedRequest
    outcome: Annotated[
        Literal["control_plane", "refused", "waits", "forwarded", "answered"],
        Field(
            description="answered: by the gateway itself, with the response of a fallback, or once the request is in"
            " the journal; then `forwarded` says where a message goes later"
        ),
    ]
    worker: Annotated[
        int | None, Field(description="The worker that answers: places in flight are its share; null: there is one")
    ] = None
    refusal: Annotated[Step | None, Field(description="The first step that refuses")]
    route: str | None
    forwarded: Forwarded | None
    candidates: list[Candidate]
    steps: Annotated[list[Step], Field(description="In the order of the policies")]
    endpoints: list[ExplainedEndpoint]
