"""What the program says about itself: stdlib logging as JSON lines or as text, through the same writer as the access
log, so that the two keep their order and neither can block the event loop.

JSON keys: `time`, `level`, `logger`, `message`, then what the call gave as `extra`, then `exception` (the traceback).
An extra whose name is already taken is left out. Where there are several workers, `worker` says whose line it is. The
text form has the same, with the traceback indented below its line.

Left out: levels for single loggers. One line on stdout is what a container expects; files are `files`, which is one
of the further handlers that `configure` takes.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from gateway.telemetry.log.render import bare, json_line, rfc3339, word

_TAKEN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "time", "level", "logger", "exception"}


class LogLines(logging.Handler):
    """Turns records into lines for `write_line`, which must not block. A record that cannot be formatted becomes a line
    that says so; nothing is ever raised into the code that logs."""

    def __init__(self, write_line: Callable[[bytes], None], log_format: Literal["json", "text"]) -> None:
        super().__init__()
        self._write_line = write_line
        self._render = _json if log_format == "json" else _text

    def createLock(self) -> None:  # noqa: N802 - the name is logging's
        """None is needed: rendering keeps no state, and the writer orders the lines."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line. Never raises: a record that cannot be formatted becomes a line that says where
        it came from."""
        try:
            line = self._render(record, _message(record))
        except Exception as error:  # noqa: BLE001 - an argument's own __str__ may raise anything
            line = self._render(
                logging.LogRecord(
                    record.name, record.levelno, "", 0, "a log record could not be formatted", None, None
                ),
                f"a log record could not be formatted: {type(error).__name__} in {record.pathname}:{record.lineno}",
            )
        self._write_line(line)


def configure(
    level: str,
    log_format: Literal["json", "text"],
    write_line: Callable[[bytes], None],
    more: Iterable[logging.Handler] = (),
    worker: int | None = None,
) -> Callable[[], None]:
    """Send all logging of the process, warnings included, to `write_line`. `level` is a name as in `LOG_LEVEL`;
    `more` handlers get every record too. Where there are several workers, `worker` is the slot of this
    process, and every line has it.

    Returns a function that restores what was there before; call it before the writer closes, so that what is logged
    later still goes somewhere (stderr).
    """
    root = logging.getLogger()
    before, level_before = root.handlers[:], root.level
    access = logging.getLogger("aiohttp.access")
    access_before = access.disabled
    handlers = [LogLines(write_line, log_format), *more]
    if worker is not None:
        for handler in handlers:
            handler.addFilter(partial(_said_by, worker))
    root.handlers[:] = handlers
    root.setLevel(level.upper())
    # The control plane's requests are not the gateway's traffic.
    access.disabled = True
    logging.captureWarnings(True)

    def restore() -> None:
        root.handlers[:] = before
        root.setLevel(level_before)
        access.disabled = access_before
        logging.captureWarnings(False)

    return restore


def _said_by(worker: int, record: logging.LogRecord) -> bool:
    # What speaks of another worker has said which one.
    if not hasattr(record, "worker"):
        record.worker = worker
    return True


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # The arguments do not fit the format. Showing both says more than showing nothing.
        return f"{record.msg} {record.args!r}"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _TAKEN}


def _traceback(record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(record.exc_text or logging.Formatter().formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _json(record: logging.LogRecord, message: str) -> bytes:
    entry: dict[str, object] = {
        "time": rfc3339(record.created),
        "level": record.levelname,
        "logger": record.name,
        "message": message,
        **_extra(record),
    }
    traceback = _traceback(record)
    if traceback:
        entry["exception"] = traceback
    return json_line(entry)


def _text(record: logging.LogRecord, message: str) -> bytes:
    words = [rfc3339(record.created), record.levelname, f"{bare(record.name)}:", bare(message)]
    words += [f"{bare(key)}={word(value)}" for key, value in _extra(record).items()]
    lines = [" ".join(words), *(f"    {bare(line)}" for line in _traceback(record).splitlines())]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
