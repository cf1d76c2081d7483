"""Logs as files of a directory, one of each kind a day, beside what goes to standard output.

    gateway-YYYYMMDD.log   every line: the application log, the access log, and one line for each error record
    errors-YYYYMMDD.log    of these, what is ERROR or worse, and the error records

Lines are JSON. A record that counts as an error of its service is an ERROR, a refusal with a 4xx status a WARNING; the
service is the last member, so that `awk '{print $NF}'` tells services apart (it prints `"orders"}`). The day is that of
local time, as `date +%Y%m%d` has it.

Each kind has a `LineWriter` of its own: the event loop appends to a list, a thread writes. Before each batch the thread
looks at the day and at the file: it opens a new one when the day has changed, when the file is gone (deleted, moved by
logrotate), or when it has grown beyond `max_bytes`; in that case the full one is renamed to `…-YYYYMMDD.N.log`, and of
the full ones of one day the newest `KEPT_PARTS` are kept. Files of days older than the retention are removed at every
opening. Lines of one batch, a tenth of a second, may cross midnight together. Several processes may share a directory:
they append whole batches and follow each other's renames.

Left out on purpose: compression.
"""

import datetime
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson

from gateway.telemetry.log.application import LogLines
from gateway.telemetry.log.error_lines import SUMS
from gateway.telemetry.log.lines import LineWriter
from gateway.telemetry.log.render import json_line, rfc3339
from gateway.telemetry.services.errors import ErrorRecord

_log = logging.getLogger(__name__)

KEPT_PARTS = 8

_CLOSED = -1
_TELL_EVERY = 60.0


class DayFile(LineWriter):
    """Lines to `directory/{stem}-YYYYMMDD.log`. A directory that cannot be written loses the lines of that moment, and
    they are counted in `dropped`."""

    __slots__ = (
        *("_clock", "_day", "_directory", "_max_bytes", "_path", "_pattern", "_retention_days", "_stem"),
        *("_told_at", "_why"),
    )

    def __init__(
        self,
        directory: Path,
        stem: str,
        *,
        retention_days: int,
        max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._stem = stem
        self._retention_days = retention_days
        self._max_bytes = max_bytes
        self._clock = clock
        self._day = ""
        self._path = directory / f"{stem}.log"
        self._pattern = re.compile(rf"{re.escape(stem)}-(\d{{8}})(?:\.(\d+))?\.log")
        self._told_at = 0.0
        # Why the file cannot be opened; None where it is open.
        self._why: OSError | None = None
        super().__init__(_CLOSED)

    def close(self, timeout: float = 2.0) -> bool:
        """Write what is waiting, for at most `timeout` seconds, and close the file. Returns whether everything was
        written."""
        closed = super().close(timeout)
        if closed:
            self._shut()
        return closed

    def _put(self, lines: bytes) -> bool:
        """Within the thread, as everything below."""
        try:
            self._turn(len(lines))
            self._why = None
        except OSError as error:
            self._why = error
        return super()._put(lines)

    def _failed(self, error: OSError) -> None:
        """Say so in standard output, which has the lines as well, at most once in `_TELL_EVERY` seconds."""
        now = self._clock()
        if abs(now - self._told_at) >= _TELL_EVERY:
            self._told_at = now
            why = (self._why or error).strerror
            extra = {"event": "log_file_unwritable", "file": str(self._path)}
            _log.warning("log lines cannot be written to %s: %s", self._path, why, extra=extra)

    def _turn(self, coming: int) -> None:
        """Have the right file open."""
        day = time.strftime("%Y%m%d", time.localtime(self._clock()))
        if self._fd != _CLOSED and day == self._day:
            size = self._size()
            if size is None or (size and size + coming > self._max_bytes and self._set_aside(day)):
                self._shut()
        else:
            self._shut()
        if self._fd == _CLOSED:
            self._open(day)

    def _open(self, day: str) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._day = day
        self._path = self._directory / f"{self._stem}-{day}.log"
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._remove_old(day)

    def _shut(self) -> None:
        if self._fd != _CLOSED:
            fd, self._fd = self._fd, _CLOSED
            self._torn = False
            with suppress(OSError):
                os.close(fd)

    def _size(self) -> int | None:
        """The size of the open file. None when its name means another file by now, or no file."""
        try:
            named, open_ = os.stat(self._path), os.fstat(self._fd)  # noqa: PTH116 - at every batch
        except FileNotFoundError:
            return None
        return open_.st_size if (named.st_ino, named.st_dev) == (open_.st_ino, open_.st_dev) else None

    def _set_aside(self, day: str) -> bool:
        """Give the full file its number, unless another process is doing so. The lock ends when the descriptor is
        closed."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        if self._size() is not None:
            parts = [number for found, number, _ in self._files() if found == day]
            self._path.rename(self._directory / f"{self._stem}-{day}.{max(parts) + 1}.log")
        return True

    def _remove_old(self, day: str) -> None:
        today = datetime.datetime.strptime(day, "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
        oldest = (today - datetime.timedelta(days=self._retention_days - 1)).strftime("%Y%m%d")
        files = sorted(self._files())
        parts = [path for found, number, path in files if found == day and number]
        for path in [*(path for found, _, path in files if found < oldest), *parts[:-KEPT_PARTS]]:
            with suppress(OSError):
                path.unlink()

    def _files(self) -> list[tuple[str, int, Path]]:
        """For each file of ours: its day, the number of its part (0 is the file that is written), and its path."""
        found = []
        for name in os.listdir(self._directory):  # noqa: PTH208 - names are all that is wanted
            match = self._pattern.fullmatch(name)
            if match:
                found.append((match[1], int(match[2] or 0), self._directory / name))
        return found


class LogFiles:
    """Both files of a directory. `write` takes a complete line that is JSON already."""

    def __init__(
        self,
        directory: str,
        *,
        retention_days: int,
        max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        path = Path(directory)
        self._all = DayFile(path, "gateway", retention_days=retention_days, max_bytes=max_bytes, clock=clock)
        self._errors = DayFile(path, "errors", retention_days=retention_days, max_bytes=max_bytes, clock=clock)
        self.write = self._all.write
        self.write_error = self._errors.write

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._all.dropped + self._errors.dropped

    def handlers(self) -> tuple[logging.Handler, logging.Handler]:
        """For the application log (`application.configure`)."""
        everything, errors = LogLines(self.write, "json"), LogLines(self.write_error, "json")
        errors.setLevel(logging.ERROR)
        for handler in (everything, errors):
            # In the files each error has a line of its own (`record`). The sums of each second are for standard output
            # alone.
            handler.addFilter(lambda line: line.name != SUMS)
        return everything, errors

    def record(self, record: ErrorRecord) -> None:
        """The line of an error record, in both files."""
        line = error_line(record)
        self.write(line)
        self.write_error(line)

    def close(self) -> None:
        """Write what is left; bounded as `LineWriter.close` is."""
        self._all.close()
        self._errors.close()


def error_line(record: ErrorRecord) -> bytes:
    """One JSON object and a newline. The service is the last member, after the only space outside of strings: split at
    spaces, the last field is the service's name in quotes and the closing brace."""
    line = json_line(
        {
            "time": rfc3339(record.time),
            "level": "ERROR" if record.counts else "WARNING",
            "logger": "gateway.errors",
            "message": record.message,
            "request_id": record.request_id,
            "correlation_id": record.correlation_id,
            "category": record.category,
            "reason": record.reason,
            "status": record.status,
            "attempt": record.attempt,
        }
    )
    return b'%b,"service": %b}\n' % (line[:-2], orjson.dumps(record.service))
