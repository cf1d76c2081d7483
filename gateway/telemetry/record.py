"""What metrics, error figures and the access log are told about one request, when it is over."""

from collections.abc import Mapping
from typing import Final

from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.tracing.trace import Trace

NO_DECISIONS: Final[Mapping[str, str]] = {}


class RouteAccount:
    """Where the requests of one route are counted. `name` is the route's and `service` its upstream's; both are empty
    for requests that no route matched. `prefix` is that of the paths which the route takes."""

    __slots__ = ("cells", "name", "prefix", "service")

    def __init__(self, name: str, service: str, cells: RouteCells, prefix: str = "") -> None:
        self.name = name
        self.service = service
        self.cells = cells
        self.prefix = prefix


class LogPart:
    """What the log lines of all requests with the same head have in common. `prepared` is the same as the log has put
    it into its own form, once it has been asked for. `scheme`, `authority` and `minor` (of HTTP/1) are how the client
    has asked, for spans."""

    __slots__ = ("_variants", "authority", "known", "minor", "prepared", "scheme")

    def __init__(self, known: dict[str, object], scheme: str = "", authority: bytes = b"", minor: int = 1) -> None:
        self.known = known
        self.prepared: bytes | None = None
        self.scheme = scheme
        self.authority = authority
        self.minor = minor
        self._variants: dict[str, LogPart] | None = None

    def of_upstream(self, name: str) -> "LogPart":
        """The same of the requests among them that go to this upstream. Made once for each."""
        variants = self._variants
        if variants is None:
            variants = self._variants = {}
        found = variants.get(name)
        if found is None:
            known = {**self.known, "upstream": name}
            found = variants[name] = LogPart(known, self.scheme, self.authority, self.minor)
        return found


class Record:
    """The account of one request.

    `request_id` and `correlation_id` are safe between quotes as they are. `endpoint` is the last one that an attempt
    was made at, empty for none. `status` is what the client got, 0 before it got anything; `reason` the stable word of
    a refusal or of an answer that broke off, empty for none. `bytes_in` and `bytes_out` are body bytes of the request
    and of the answer. `upstream_seconds` is the time of all attempts. `log_decisions` are the decisions of policies as
    the log line shows them; the mapping is shared between requests and is replaced, never changed. `answered_badly` is
    the status of the last attempt that was answered with one that counts as a failure, 0 without one. `trace` is kept
    where somebody wants to know about each attempt, None elsewhere.
    """

    __slots__ = (
        "account",
        "answered_badly",
        "attempts",
        "bytes_in",
        "bytes_out",
        "correlation_id",
        "endpoint",
        "log_decisions",
        "log_part",
        "reason",
        "request_id",
        "status",
        "trace",
        "upstream_seconds",
    )

    def __init__(self, account: RouteAccount, log_part: LogPart, request_id: bytes, correlation_id: bytes) -> None:
        self.account = account
        self.log_part = log_part
        self.request_id = request_id
        self.correlation_id = correlation_id
        self.endpoint = ""
        self.status = 0
        self.reason = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.attempts = 0
        self.answered_badly = 0
        self.upstream_seconds = 0.0
        self.log_decisions = NO_DECISIONS
        self.trace: Trace | None = None

    def note(self, policy: str, decision: str) -> None:
        """Add what a policy decided to the log line."""
        self.log_decisions = {**self.log_decisions, policy: decision}
