"""Requests, records and tickets for tests that need no connection."""

from collections.abc import Mapping

from gateway.proxy.requests.identity import Identification
from gateway.proxy.ticket import Ticket
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, Record, RouteAccount
from gateway.wire.message.request import Limits, Request, check, parse_fields


def request(target: bytes = b"/a/x", *lines: str, method: str = "GET") -> Request:
    """A valid request; `lines` are header lines besides Host."""
    block = "".join(f"{line}\r\n" for line in ("Host: a", *lines)).encode() + b"\r\n"
    made = Request(method, target, 1, parse_fields(block, Limits()))
    check(made)
    return made


def record(
    known: Mapping[str, object],
    *,
    request_id: bytes = b"r",
    correlation_id: bytes | None = None,
    endpoint: str = "",
    status: int = 200,
    bytes_out: int = 0,
    upstream_seconds: float = 0.0,
    attempts: int = 0,
    decisions: Mapping[str, str] | None = None,
    reason: str = "",
) -> Record:
    """The account of a request that is over; `known` is what its log line shares with others."""
    account = RouteAccount("a", "orders", RouteCells())
    made = Record(account, LogPart(dict(known)), request_id, correlation_id or request_id)
    made.endpoint = endpoint
    made.status = status
    made.bytes_out = bytes_out
    made.upstream_seconds = upstream_seconds
    made.attempts = attempts
    made.log_decisions = decisions or {}
    made.reason = reason
    return made


def ticket(of: Request | None = None, account: RouteAccount | None = None, peer: str = "192.0.2.1") -> Ticket:
    """A ticket of a request that has just come, at the instant 0."""
    made = of or request()
    account = account or RouteAccount("a", "orders", RouteCells())
    known: dict[str, object] = {
        "client": peer,
        "method": made.method,
        "route": account.name,
        "upstream": account.service,
    }
    return Ticket(made, Identification((), "gw").direct(peer, "http"), account, LogPart(known), b"0" * 32, 0.0)
