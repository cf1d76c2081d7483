"""One line for each request, when it is over.

The entry is a dict that the data plane makes; here it gets the time and a form. Keys, in this order: `request_id`,
`correlation_id`, `client`, `method`, `target`, `route`, `upstream`, `endpoint`, `status`, `bytes_in`, `bytes_out`,
`duration_ms`, `upstream_ms`, `attempts`, `decisions` (policy decisions, a small dict), `reason`. Unknown ones are
`null` in JSON and absent from text; more keys may follow. Floats appear in JSON as they are: whoever measures rounds.

The time is that of the end of the request, RFC 3339 in UTC with milliseconds; its seconds are formatted once a second.
"""

import time
from collections.abc import Callable
from typing import Literal

from gateway.telemetry.render import bare, json_line, rfc3339, word

_MILLISECONDS = tuple(f'.{millisecond:03d}Z",'.encode() for millisecond in range(1000))
_POSITIONAL = frozenset({"client", "method", "target", "status", "duration_ms", "request_id", "correlation_id"})


class AccessLog:
    """Gives each entry as one line to `write_line`, which must not block (`LineWriter.write`).

    `log_format` "json" is for machines and is the fast one; "text" is for people.
    """

    __slots__ = ("_clock", "_json", "_second", "_second_json", "_write_line")

    def __init__(
        self,
        write_line: Callable[[bytes], None],
        log_format: Literal["json", "text"] = "json",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._write_line = write_line
        self._json = log_format == "json"
        self._clock = clock
        self._second = -1
        self._second_json = b""

    def write(self, entry: dict[str, object]) -> None:
        """HOT. `entry` has at least one key and no `time`; it is neither changed nor kept. No value makes it raise."""
        now = self._clock()
        if not self._json:
            line = f"{rfc3339(now)} {text_line(entry)}\n"
            self._write_line(line.encode("utf-8", "backslashreplace"))
            return
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_json = f'{{"time":"{rfc3339(second)[:-5]}'.encode()
        milliseconds = _MILLISECONDS[int((now - second) * 1000)]
        self._write_line(self._second_json + milliseconds + json_line(entry)[1:])


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
