"""One line for each request, when it is over.

The entry is a dict that the data plane makes; here it gets the time and a form. Keys, in this order: `request_id`,
`correlation_id`, `client`, `method`, `target`, `route`, `upstream`, `endpoint`, `status`, `bytes_in`, `bytes_out`,
`duration_ms`, `upstream_ms`, `attempts`, `decisions` (policy decisions, a small dict), `reason`. Bytes are those of
bodies: what a refusal sends counts too. Unknown ones are
`null` in JSON and absent from text; more keys may follow. Milliseconds have three decimals at most.

The time is that of the end of the request, RFC 3339 in UTC with milliseconds; its seconds are formatted once a second.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import orjson

from gateway.telemetry.render import bare, json_line, rfc3339, word

_MILLISECONDS = tuple(f'.{millisecond:03d}Z",'.encode() for millisecond in range(1000))
_POSITIONAL = frozenset({"client", "method", "target", "status", "duration_ms", "request_id", "correlation_id"})


Known = dict[str, object]
LoggedRefusal = bytes | tuple[int, Mapping[str, str], str, int]
"""The end of a line; or what it is made of, for people."""


class AccessLog:
    """Gives each entry as one line to `write_line`, which must not block (`LineWriter.write`).

    `log_format` "json" is for machines and is the fast one; "text" is for people.
    """

    __slots__ = (
        "_decisions",
        "_decisions_json",
        "_endpoints",
        "_json",
        "_second",
        "_second_json",
        "_since",
        "_time_json",
        "_until",
        "_write_line",
    )

    def __init__(
        self,
        write_line: Callable[[bytes], None],
        log_format: Literal["json", "text"] = "json",
    ) -> None:
        self._write_line = write_line
        self._json = log_format == "json"
        # The time as it was last written, and for how long that is right.
        self._since = self._until = 0.0
        self._time_json = b""
        self._second = -1
        self._second_json = b""
        # As JSON, of every endpoint that there is.
        self._endpoints = {"": b"null"}
        # The last ones: most exchanges share the very same object.
        self._decisions: Mapping[str, str] | None = None
        self._decisions_json = b""

    def prepare(self, known: Known) -> Known | bytes:
        """The part of a line that many exchanges share, for `exchange`. No value makes it raise."""
        return json_line(known)[1:-2] if self._json else known

    def exchange(
        self,
        prepared: Known | bytes,
        request_id: bytes,
        correlation_id: bytes,
        endpoint: str,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        upstream_seconds: float,
        attempts: int,
        decisions: Mapping[str, str],
        reason: str,
        now: float,
    ) -> None:
        """HOT. The line of an exchange that is over. The ids are safe to be put between quotes as they are, `now` is in
        seconds since the epoch. JSON is put together by hand: the parts that could need escaping are in `prepared` or
        go through orjson."""
        if isinstance(prepared, bytes):
            if decisions is not self._decisions:
                self._decisions = decisions
                self._decisions_json = json_line(dict(decisions))[:-1]
            self._write_line(
                b'%b"request_id":"%b","correlation_id":"%b",%b,"endpoint":%b,"status":%d,"bytes_in":%d,"bytes_out":%d,'
                b'"duration_ms":%.3f,"upstream_ms":%.3f,"attempts":%d,"decisions":%b,"reason":%b}\n'
                % (
                    self._time(now),
                    request_id,
                    correlation_id,
                    prepared,
                    self._endpoints.get(endpoint) or self._endpoint(endpoint),
                    status,
                    bytes_in,
                    bytes_out,
                    seconds * 1000.0,
                    upstream_seconds * 1000.0,
                    attempts,
                    self._decisions_json,
                    b'"%b"' % reason.encode() if reason else b"null",
                )
            )
            return
        self.write(
            {
                "request_id": request_id.decode(),
                "correlation_id": correlation_id.decode(),
                **prepared,
                "endpoint": endpoint or None,
                "status": status,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "duration_ms": round(seconds * 1000.0, 3),
                "upstream_ms": round(upstream_seconds * 1000.0, 3),
                "attempts": attempts,
                "decisions": decisions,
                "reason": reason or None,
            },
            now,
        )

    def prepare_refusal(self, status: int, decisions: Mapping[str, str], reason: str, bytes_out: int) -> LoggedRefusal:
        """The part of a line that all refusals of a kind share, for `refusal`."""
        if not self._json:
            return status, decisions, reason, bytes_out
        return (
            b',"endpoint":null,"status":%d,"bytes_in":0,"bytes_out":%d,"duration_ms":0.000,"upstream_ms":0.000,'
            b'"attempts":0,"decisions":%b,"reason":"%b"}\n'
            % (status, bytes_out, json_line(dict(decisions))[:-1], reason.encode())
        )

    def refusal(
        self,
        prepared: Known | bytes,
        refusal: LoggedRefusal,
        request_id: bytes,
        correlation_id: bytes,
        now: float,
    ) -> None:
        """HOT. The line of a request that was refused before anything became of it, so it took no time."""
        if not isinstance(refusal, bytes):
            status, decisions, reason, sent = refusal
            self.exchange(
                prepared, request_id, correlation_id, "", status, 0, sent, 0.0, 0.0, 0, decisions, reason, now
            )
            return
        assert isinstance(prepared, bytes)  # noqa: S101 - both were prepared here, in the one format
        self._write_line(
            b"".join(
                (
                    self._time(now),
                    b'"request_id":"',
                    request_id,
                    b'","correlation_id":"',
                    correlation_id,
                    b'",',
                    prepared,
                    refusal,
                )
            )
        )

    def write(self, entry: dict[str, object], now: float) -> None:
        """A line about what never became an exchange. `entry` has at least one key and no `time`; it is neither changed
        nor kept. No value makes it raise."""
        if self._json:
            self._write_line(self._time(now) + json_line(entry)[1:])
        else:
            line = f"{rfc3339(now)} {text_line(entry)}\n"
            self._write_line(line.encode("utf-8", "backslashreplace"))

    def _endpoint(self, endpoint: str) -> bytes:
        known = self._endpoints[endpoint] = orjson.dumps(endpoint)
        return known

    def _time(self, now: float) -> bytes:
        if not self._since <= now < self._until:
            second = math.floor(now)
            millisecond = int((now - second) * 1000)
            self._since, self._until = now, second + (millisecond + 1) / 1000.0
            if second != self._second:
                self._second = second
                self._second_json = f'{{"time":"{rfc3339(second)[:-5]}'.encode()
            self._time_json = self._second_json + _MILLISECONDS[millisecond]
        return self._time_json


def text_line(entry: dict[str, object]) -> str:
    """`client method target status duration`, then `key=value` pairs of whatever else is known, then the ids."""
    get = entry.get
    words = [
        word(get("client") or "-"),
        word(get("method") or "-"),
        word(get("target") or "-"),
        word(get("status") or "-"),
    ]
    duration = get("duration_ms")
    words.append("-" if duration is None else f"{word(duration)}ms")
    words += [
        f"{bare(key)}={word(value)}"
        for key, value in entry.items()
        if key not in _POSITIONAL and value is not None and value != {}
    ]
    request_id, correlation_id = get("request_id"), get("correlation_id")
    if request_id is not None:
        words.append(f"id={word(request_id)}")
    if correlation_id is not None and correlation_id != request_id:
        words.append(f"correlation={word(correlation_id)}")
    return " ".join(words)
