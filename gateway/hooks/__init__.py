"""Python hooks: all that the author of one imports (docs/hooks.md).

    class NeedsTeam:
        def on_request(self, head: RequestHead) -> Refusal | RequestChanges | None: ...
        def on_response(self, head: ResponseHead) -> ResponseChanges | None: ...

A hook has one of the two methods, or both. They are called on the event loop, between all other requests of the
worker: they must not wait for anything. Whatever they are given cannot be changed; what they want to have changed they
return. The gateway checks it, and takes what it does not allow for a failure of the hook.

Texts of requests and answers are latin-1, one character for each byte.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

__all__ = [
    "Fields",
    "Refusal",
    "RequestChanges",
    "RequestHead",
    "RequestHook",
    "ResponseChanges",
    "ResponseHead",
    "ResponseHook",
]


class Fields:
    """Header fields, in the order in which they came. Names are found in any case. The gateway makes them of complete
    field `lines`, which are read when somebody asks for one."""

    __slots__ = ("_by_name", "_lines", "_pairs")

    def __init__(
        self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = (), *, lines: bytes | None = None
    ) -> None:
        self._by_name: dict[str, list[str]] | None = None
        self._lines = lines or b""
        self._pairs: tuple[tuple[str, str], ...] | None = None
        if lines is None:
            self._pairs = tuple(fields.items() if isinstance(fields, Mapping) else fields)

    def get(self, name: str, default: str = "") -> str:
        """The value of a field; several are one list with commas (RFC 9110 section 5.3). Of `Set-Cookie` each is one
        of its own: see `all`."""
        values = self._values().get(name.lower())
        return default if values is None else ", ".join(values)

    def all(self, name: str) -> tuple[str, ...]:
        """The values of all fields of this name."""
        return tuple(self._values().get(name.lower(), ()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Each field as (name, value), spelt as it came."""
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        # Without the values, which may be secrets.
        return f"<Fields {', '.join(name for name, _ in self._read())}>"

    def _read(self) -> tuple[tuple[str, str], ...]:
        pairs = self._pairs
        if pairs is None:
            parts = [line.partition(":") for line in self._lines.decode("latin-1").split("\r\n")]
            pairs = self._pairs = tuple([(name, value.strip(" \t")) for name, colon, value in parts if colon])
        return pairs

    def _values(self) -> dict[str, list[str]]:
        by_name = self._by_name
        if by_name is None:
            by_name = self._by_name = {}
            for name, value in self._read():
                by_name.setdefault(name.lower(), []).append(value)
        return by_name


class RequestHead(NamedTuple):
    """A request as its client has sent it, or as the hooks before this one have changed it.

    `path` begins with a slash and is not decoded; `query` is what follows the question mark, empty without one.
    `fields` are those that go on to an upstream, but for what the gateway adds, and with the credentials of the client.
    `host` is what the client has asked for. `client` is the address as it is limited and logged: an IPv6 address stands
    for its /64. `consumer`, `tenant`, `tier` and `scopes` are empty where the route does not ask who sends a request.
    """

    method: str = "GET"
    path: str = "/"
    query: str = ""
    fields: Fields = Fields()
    host: str = ""
    scheme: str = "http"
    client: str = ""
    route: str = ""
    request_id: str = ""
    correlation_id: str = ""
    consumer: str = ""
    tenant: str = ""
    tier: str = ""
    scopes: frozenset[str] = frozenset()


class ResponseHead(NamedTuple):
    """The answer of an upstream that the client is about to get, before the route changes it. `upstream` is the name of
    who has answered, and `request` what it was asked, as the last hook before the upstream has left it."""

    status: int = 200
    fields: Fields = Fields()
    upstream: str = ""
    request: RequestHead = RequestHead()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request ends here, with this answer: a problem (RFC 9457) whose `reason` is `hook_refused`.

    `status` is from 400 to 599. `detail` says to the client what is wrong, in a sentence of at most 1000 characters.
    `code` is a word of your own that programs can compare, up to 64 letters, digits, `.`, `_` or `-`. `retry_after` is
    in whole seconds, from 1 on. `fields` are added to the answer."""

    status: int = 403
    detail: str = ""
    code: str = ""
    retry_after: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestChanges:
    """What is to be changed of a request on its way to the upstream.

    Fields of the names in `remove` and `set` are taken out, in whatever spelling an upstream may take for them; then
    those of `set` and `append` are added. `path` and `query` replace those that the client has sent, None leaves them:
    the path must be one that the route takes. Its prefix is taken off, and it is rewritten, as if the client had sent
    it."""

    set: Mapping[str, str] = field(default_factory=dict)
    append: Mapping[str, str] = field(default_factory=dict)
    remove: Iterable[str] = ()
    path: str | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseChanges:
    """What is to be changed of an answer on its way to the client: as with requests."""

    set: Mapping[str, str] = field(default_factory=dict)
    append: Mapping[str, str] = field(default_factory=dict)
    remove: Iterable[str] = ()


class RequestHook(Protocol):
    """A hook that is asked about requests. It need not extend this."""

    def on_request(self, head: RequestHead) -> Refusal | RequestChanges | None:
        """Called once for each request, before it is validated and before anything is sent. None: nothing to say."""
        ...


class ResponseHook(Protocol):
    """A hook that is asked about answers. It need not extend this."""

    def on_response(self, head: ResponseHead) -> ResponseChanges | None:
        """Called once for the answer of an upstream that the client gets. None: nothing to say."""
        ...
