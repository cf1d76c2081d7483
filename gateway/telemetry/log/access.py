"""One line for each request, when it is over.

The entry is a dict that the data plane makes; here it gets the time and a form. Keys, in this order: `request_id`,
`correlation_id`, `client`, `method`, `target`, `route`, `upstream`, `endpoint`, `status`, `bytes_in`, `bytes_out`,
`duration_ms`, `upstream_ms`, `attempts`, `decisions` (policy decisions, a small dict), `reason`. Bytes are those of
bodies, and the body of a refusal counts too. A value that is not known is `null` in JSON and absent from text. More
keys may follow. Milliseconds have at most three decimals.

The time is that of the end of the request, RFC 3339 in UTC with milliseconds; its seconds are formatted once a second.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, Literal

import orjson

from gateway.telemetry.digits import decimal, milliseconds
from gateway.telemetry.log.render import bare, json_line, rfc3339, word
from gateway.telemetry.record import LogPart, Record

_MILLISECONDS: Final = tuple(f'.{millisecond:03d}Z",'.encode() for millisecond in range(1000))
_POSITIONAL: Final = frozenset({"client", "method", "target", "status", "duration_ms", "request_id", "correlation_id"})


class AccessLog:
    """Gives each entry as one line to `write_line`, which must not block (`LineWriter.write`).

    `log_format` "json" is for machines and is the fast one; "text" is for people. Without `query`, targets end before
    their `?`.
    """

    __slots__ = (
        "_decisions",
        "_decisions_json",
        "_endpoints",
        "_json",
        "_query",
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
        *,
        query: bool = True,
    ) -> None:
        self._write_line = write_line
        self._query = query
        self._json = log_format == "json"
        # The time as it was last written, and for how long that is right.
        self._since = self._until = 0.0
        self._time_json = b""
        self._second = -1
        self._second_json = b""
        # As JSON, of every endpoint that there is.
        self._endpoints = {"": b"null"}
        # The decisions that were rendered last: most exchanges share one and the same object.
        self._decisions: Mapping[str, str] | None = None
        self._decisions_json = b""

    def exchange(self, record: Record, seconds: float, now: float) -> None:
        """The line of an exchange that is over, after `seconds`. `now` is in seconds since the epoch. The JSON is put
        together by hand. Whatever could need escaping is in the record's log part or goes through orjson. HOT."""
        reason = record.reason
        if self._json:
            part = record.log_part
            prepared = part.prepared
            if prepared is None:
                prepared = self._prepare(part)
            decisions = record.log_decisions
            if decisions is not self._decisions:
                self._decisions = decisions
                self._decisions_json = json_line(dict(decisions))[:-1]
            self._write_line(
                b"".join(
                    (
                        self._time(now),
                        b'"request_id":"',
                        record.request_id,
                        b'","correlation_id":"',
                        record.correlation_id,
                        b'",',
                        prepared,
                        b',"endpoint":',
                        self._endpoints.get(record.endpoint) or self._endpoint(record.endpoint),
                        b',"status":',
                        decimal(record.status),
                        b',"bytes_in":',
                        decimal(record.bytes_in),
                        b',"bytes_out":',
                        decimal(record.bytes_out),
                        b',"duration_ms":',
                        milliseconds(seconds),
                        b',"upstream_ms":',
                        milliseconds(record.upstream_seconds),
                        b',"attempts":',
                        decimal(record.attempts),
                        b',"decisions":',
                        self._decisions_json,
                        b',"reason":"%b"}\n' % reason.encode() if reason else b',"reason":null}\n',
                    )
                )
            )
        else:
            self.write(_entry(record, seconds, self._known(record.log_part)), now)

    def prepare_refusal(self, record: Record) -> bytes:
        """The end of the line that `refusal` writes, which all refusals of a kind share; `record` is of one of them."""
        return (
            b',"endpoint":null,"status":%d,"bytes_in":0,"bytes_out":%d,"duration_ms":0.000,"upstream_ms":0.000,'
            b'"attempts":0,"decisions":%b,"reason":"%b"}\n'
            % (record.status, record.bytes_out, json_line(dict(record.log_decisions))[:-1], record.reason.encode())
        )

    def refusal(self, record: Record, end: bytes, now: float) -> None:
        """The line of a request that was refused before anything became of it, so it took no time. `end` is from
        `prepare_refusal`. HOT."""
        if not self._json:
            self.exchange(record, 0.0, now)
            return
        part = record.log_part
        prepared = part.prepared
        if prepared is None:
            prepared = self._prepare(part)
        self._write_line(
            b"".join(
                (
                    self._time(now),
                    b'"request_id":"',
                    record.request_id,
                    b'","correlation_id":"',
                    record.correlation_id,
                    b'",',
                    prepared,
                    end,
                )
            )
        )

    def _prepare(self, part: LogPart) -> bytes:
        """The part of a line that many requests share. No value makes it raise."""
        prepared = part.prepared = json_line(self._known(part))[1:-2]
        return prepared

    def _known(self, part: LogPart) -> dict[str, object]:
        known, target = part.known, part.known.get("target")
        if self._query or not isinstance(target, str):
            return known
        return {**known, "target": target.partition("?")[0]}

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


class BothAccessLogs(AccessLog):
    """The access log as text for people, and as JSON for the files."""

    __slots__ = ("_files",)

    def __init__(
        self, write_text: Callable[[bytes], None], write_json: Callable[[bytes], None], *, query: bool = True
    ) -> None:
        super().__init__(write_text, "text", query=query)
        self._files = AccessLog(write_json, "json")

    def write(self, entry: dict[str, object], now: float) -> None:
        """Write one entry to standard output and to the file. `now` is in seconds since the epoch."""
        super().write(entry, now)
        self._files.write(entry, now)


def beside_file(
    write_line: Callable[[bytes], None],
    write_file: Callable[[bytes], None],
    log_format: Literal["json", "text"],
    *,
    query: bool = True,
) -> AccessLog:
    """One that writes to `write_line`, in that format, and to `write_file`, in JSON."""
    if log_format == "text":
        return BothAccessLogs(write_line, write_file, query=query)

    def both(line: bytes) -> None:
        write_line(line)
        write_file(line)

    return AccessLog(both, "json", query=query)


def _entry(record: Record, seconds: float, known: dict[str, object]) -> dict[str, object]:
    return {
        "request_id": record.request_id.decode(),
        "correlation_id": record.correlation_id.decode(),
        **known,
        "endpoint": record.endpoint or None,
        "status": record.status,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "duration_ms": round(seconds * 1000.0, 3),
        "upstream_ms": round(record.upstream_seconds * 1000.0, 3),
        "attempts": record.attempts,
        "decisions": record.log_decisions,
        "reason": record.reason or None,
    }


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
