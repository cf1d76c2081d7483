"""Types of single values. Where no range says what is allowed, they say it in words."""

import re
from collections.abc import Callable
from typing import Annotated

from annotated_types import Interval
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from gateway.config.declaring import addresses
from gateway.config.declaring.section import Allowed
from gateway.syntax.hosts import Network

_NAME_ALLOWED = "up to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
_KEY_PREFIX_ALLOWED = "1 to 64 letters, digits, '_', '.', ':' or '-'"
_ADDRESS_ALLOWED = "host or host:port; IPv6 addresses in brackets"
_BEARER_ALLOWED = "16 to 256 characters of a bearer token (RFC 6750): letters, digits and -._~+/, then any '='"
_STATUSES_ALLOWED = "statuses from 400 to 599"
_STATUS_RANGE = re.compile(r"([0-9]{3})-([0-9]{3})|([0-9])xx", re.ASCII | re.IGNORECASE)
_VIA_ALLOWED = "1 to 64 characters of an HTTP token (RFC 9110 section 5.6.2), such as gateway-1"
MOST_WORKERS = 256
_WORKERS_ALLOWED = f"auto, or an integer from 1 to {MOST_WORKERS}"
_METHOD_ALLOWED = "HTTP methods in capitals, such as GET, POST"
_FIELD_NAME_ALLOWED = "names of header fields, such as Content-Type; no *"
_KEY_ID_ALLOWED = "8 to 32 lower-case letters and digits"
_SHA256_ALLOWED = "the SHA-256 of a key in 64 hexadecimal digits, in lower case"
_CALLER_ALLOWED = "1 to 255 visible ASCII characters, such as web, or login:alice of the issuer login"
_SCOPE_ALLOWED = "1 to 64 characters of a scope (RFC 6749 section 3.3), such as orders:read"


def _matching(pattern: str, allowed: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)
    return AfterValidator(lambda text: text if compiled.fullmatch(text) else addresses.reject(allowed))


def each_status(value: object) -> object:
    """The statuses of a list, with `500-504` and `5xx` replaced by all that they stand for. Anything else is left to
    the validator."""
    if not isinstance(value, list):
        return value
    each: list[object] = []
    for item in value:
        found = _STATUS_RANGE.fullmatch(item) if isinstance(item, str) else None
        if found is None:
            each.append(item)
            continue
        first, last = (int(found[3] + "00"), int(found[3] + "99")) if found[3] else (int(found[1]), int(found[2]))
        # A range that is empty or leaves what is allowed is refused as it was written.
        each += range(first, last + 1) if 400 <= first <= last <= 599 else [item]
    return list(dict.fromkeys(each)) if all(isinstance(one, str | int) for one in each) else each


def _parsed_by(parse: Callable[[str], object]) -> AfterValidator:
    """Keep the text, but only if it parses."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _worker_count(value: object) -> object:
    """`auto` is 0: the number is found out where the workers are started."""
    if isinstance(value, str):
        if value.lower() == "auto":
            return 0
        if value.isascii() and value.isdigit() and 1 <= int(value) <= MOST_WORKERS:
            return int(value)
        addresses.reject(_WORKERS_ALLOWED)
    return value


WorkerCount = Annotated[int, BeforeValidator(_worker_count), Allowed(_WORKERS_ALLOWED)]
Name = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", _NAME_ALLOWED), Allowed(_NAME_ALLOWED)]
# Braces would be hash tags of Redis Cluster, which put every key into one slot.
KeyPrefix = Annotated[str, _matching(r"[A-Za-z0-9_.:-]{1,64}", _KEY_PREFIX_ALLOWED), Allowed(_KEY_PREFIX_ALLOWED)]
ViaName = Annotated[str, _matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", _VIA_ALLOWED), Allowed(_VIA_ALLOWED)]
Origin = Annotated[str, AfterValidator(addresses.origin), Allowed(addresses.ORIGIN_ALLOWED)]
Method = Annotated[str, _matching(r"[A-Z][A-Z-]{0,31}", _METHOD_ALLOWED), Allowed(_METHOD_ALLOWED)]
FieldName = Annotated[
    str, _matching(r"[A-Za-z0-9!#$%&'+.^_`|~-]{1,64}", _FIELD_NAME_ALLOWED), Allowed(_FIELD_NAME_ALLOWED)
]
Host = Annotated[str, AfterValidator(addresses.host), Allowed(addresses.HOST_ALLOWED)]
Address = Annotated[
    str, _parsed_by(lambda text: addresses.host_port(text, 1, _ADDRESS_ALLOWED)), Allowed(_ADDRESS_ALLOWED)
]
UpstreamUrl = Annotated[str, _parsed_by(addresses.target), Allowed(addresses.URL_ALLOWED)]
RedisUrl = Annotated[str, _parsed_by(addresses.redis_url), Allowed(addresses.REDIS_URL_ALLOWED)]
UrlPath = Annotated[
    str, AfterValidator(lambda text: addresses.path(text, addresses.PATH_ALLOWED)), Allowed(addresses.PATH_ALLOWED)
]
AdminToken = Annotated[str, _matching(r"[A-Za-z0-9._~+/-]{16,256}=*", _BEARER_ALLOWED), Allowed(_BEARER_ALLOWED)]
WebhookUrl = Annotated[str, AfterValidator(addresses.webhook_url), Allowed(addresses.WEBHOOK_URL_ALLOWED)]
DirectoryName = Annotated[str, Field(min_length=1), Allowed("the path of a directory that can be written, or created")]
FileName = Annotated[str, Field(min_length=1), Allowed("the path of a readable file")]
Port = Annotated[int, Interval(ge=1, le=65535)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
Share = Annotated[float, Interval(ge=0.01, le=1)]
Status = Annotated[int, Interval(ge=400, le=599), Allowed(_STATUSES_ALLOWED)]
Statuses = Annotated[list[Status], BeforeValidator(each_status)]
ProxyNetwork = Annotated[Network, PlainValidator(addresses.network), Allowed("IP addresses or CIDR networks")]
KeyId = Annotated[str, _matching(r"[a-z0-9]{8,32}", _KEY_ID_ALLOWED), Allowed(_KEY_ID_ALLOWED)]
Sha256 = Annotated[str, _matching(r"[0-9a-f]{64}", _SHA256_ALLOWED), Allowed(_SHA256_ALLOWED)]
CallerName = Annotated[str, _matching(r"[!-~]{1,255}", _CALLER_ALLOWED), Allowed(_CALLER_ALLOWED)]
Scope = Annotated[str, _matching(r"[!#-\[\]-~]{1,64}", _SCOPE_ALLOWED), Allowed(_SCOPE_ALLOWED)]
