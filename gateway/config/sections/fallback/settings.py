"""Fallbacks: what a route of the file says about whom to ask when its upstream does not answer."""

from typing import Annotated, Final

from annotated_types import Interval, Len, MaxLen
from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.declaring import addresses
from gateway.config.declaring.field_types import each_status
from gateway.config.declaring.section import Allowed, Bytes, Meaning, Seconds, Section
from gateway.config.problems import nearest
from gateway.config.sections.fallback.model import CONDITIONS

_ON_ALLOWED: Final = f"{', '.join(CONDITIONS)}, and statuses from 400 to 599 such as 429 or 5xx"
_UPSTREAM_ALLOWED: Final = "the name of an upstream, or a list of names"
_CONTENT_TYPE_ALLOWED: Final = "a media type, such as application/json"


def _condition(value: object) -> object:
    if isinstance(value, str):
        return value if value in CONDITIONS else addresses.reject(_ON_ALLOWED, nearest(value, [*CONDITIONS, "5xx"]))
    status = isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599
    return value if status else addresses.reject(_ON_ALLOWED)


def _one_for_a_list(value: object) -> object:
    return [value] if isinstance(value, str | int) else value


def _content_type(text: str) -> str:
    kind, slash, rest = text.partition("/")
    good = text.isascii() and text.isprintable() and kind and slash and rest
    return text if good else addresses.reject(_CONTENT_TYPE_ALLOWED)


def _usual() -> list[str | int]:
    return [*CONDITIONS, "5xx"]


class FallbackResponse(Section):
    """An answer that never changes."""

    status: Annotated[
        Annotated[int, Interval(ge=200, le=599)] | None,
        Allowed("a status from 200 to 599"),
        Meaning("Status of an answer of the gateway's own, where no upstream has one", "no such answer"),
    ] = None
    body: Annotated[str, MaxLen(65_536), Allowed("text, up to 65536 characters"), Meaning("Its body", "empty")] = ""
    content_type: Annotated[
        str, Len(3, 256), AfterValidator(_content_type), Allowed(_CONTENT_TYPE_ALLOWED), Meaning("Its `Content-Type`")
    ] = "text/plain; charset=utf-8"


class Fallback(Section):
    """Whom to ask when the upstream of a route does not answer."""

    upstream: Annotated[
        Annotated[list[str], Len(0, 10)],
        BeforeValidator(_one_for_a_list),
        Allowed(_UPSTREAM_ALLOWED),
        Meaning("Asked when the upstream of the route does not answer, one after the other, each once", "none"),
    ] = Field(default_factory=list)
    on: Annotated[
        list[Annotated[str | int, BeforeValidator(_condition), Allowed(_ON_ALLOWED)]],
        BeforeValidator(each_status),
        BeforeValidator(_one_for_a_list),
        Len(1, 300),
        Allowed(f"a list of {_ON_ALLOWED}"),
        Meaning("What the fallback is used on: refusals of the gateway, and answers with these statuses"),
    ] = Field(default_factory=_usual, validate_default=True)
    after: Annotated[
        Annotated[Seconds, Interval(ge=0.001, le=3600)] | None,
        Allowed("a number of seconds"),
        Meaning("How long the upstream of the route has, retries included", "an equal part of `timeouts.total`"),
    ] = None
    non_idempotent: Annotated[bool, Meaning("Also for a POST or PATCH that an upstream may have acted on")] = False
    stale_if_error: Annotated[
        Seconds,
        Interval(ge=0, le=604_800),
        Meaning("How old the last good answer to a GET may be that is given in the end; 0 keeps none"),
    ] = 0.0
    stale_max_bytes: Annotated[
        Bytes, Interval(ge=65_536, le=1_073_741_824), Meaning("What these answers take in memory at most, on this host")
    ] = 16_777_216
    response: FallbackResponse = FallbackResponse()
