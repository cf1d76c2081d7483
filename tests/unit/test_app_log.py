"""Application logs as JSON lines and as text."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from gateway.telemetry.log.application import configure


@dataclass
class Output:
    lines: list[bytes] = field(default_factory=list)
    restore: Callable[[], None] = lambda: None

    def start(self, log_format: str = "json", level: str = "INFO") -> None:
        self.restore = configure(level, "text" if log_format == "text" else "json", self.lines.append)

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]

    @property
    def text(self) -> str:
        return b"".join(self.lines).decode()


@pytest.fixture
def output() -> Iterator[Output]:
    output = Output()
    yield output
    output.restore()


log = logging.getLogger("gateway.test")


ONE = ("one",)  # too few, where the linter does not count


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def fail(message: str) -> None:
    try:
        int(message)
    except ValueError as error:
        error.args = (message,)
        log.exception("failed")


def test_a_record_has_its_keys_and_its_extra(output: Output) -> None:
    output.start()
    log.info("Circuit breaker %s: %s", "OPENED", "default", extra={"upstream": "default", "failures": 5})
    (record,) = output.records
    assert list(record) == ["time", "level", "logger", "message", "upstream", "failures"]
    assert record["message"] == "Circuit breaker OPENED: default"
    assert (record["level"], record["logger"], record["failures"]) == ("INFO", "gateway.test", 5)
    assert output.lines[0].endswith(b"}\n")


def test_the_level_holds_for_all_loggers(output: Output) -> None:
    output.start(level="warning")
    log.info("not said")
    logging.getLogger("asyncio").warning("said")
    logging.getLogger("aiohttp.server").error("said too")
    logging.getLogger("aiohttp.access").error("never said")
    assert [record["logger"] for record in output.records] == ["asyncio", "aiohttp.server"]


def test_an_exception_keeps_its_traceback_in_one_line(output: Output) -> None:
    output.start()
    fail("first\nsecond")
    (record,) = output.records
    assert len(output.lines) == 1
    assert output.lines[0].count(b"\n") == 1
    exception = str(record["exception"])
    assert exception.startswith("Traceback (most recent call last):")
    assert exception.endswith("ValueError: first\nsecond")


def test_warnings_are_captured(output: Output) -> None:
    output.start()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    (record,) = output.records
    assert (record["logger"], record["level"]) == ("py.warnings", "WARNING")
    assert "old ways" in str(record["message"])


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_nothing_that_is_logged_raises_or_is_lost(output: Output, log_format: str) -> None:
    output.start(log_format)
    log.info("%d and %d", *ONE)
    log.info("%s", Hostile())
    log.info("value", extra={"odd": Hostile()})
    log.info("caf\u00e9 \udcff", extra={"odd": {1: b"\xff"}, "huge": 2**80})
    assert len(output.lines) == 4
    assert b"%d and %d" in output.lines[0]
    assert b"could not be formatted: RuntimeError" in output.lines[1]
    assert all(line.count(b"\n") == 1 for line in output.lines)


def test_text_is_for_people_and_safe(output: Output) -> None:
    output.start("text")
    log.warning("client said %s", "a\nb\x1b[31m\u202e", extra={"upstream": "default", "cause": "5 in a row"})
    time, rest = output.text.split(" ", 1)
    assert len(time) == 24
    assert rest == ('WARNING gateway.test: client said a\\nb\\x1b[31m\\u202e upstream=default cause="5 in a row"\n')


def test_a_traceback_in_text_is_indented_below_its_line(output: Output) -> None:
    output.start("text")
    fail("x\n2023-01-01T00:00:00.000Z INFO forged: line")
    first, *others = output.text.splitlines()
    assert first.endswith("ERROR gateway.test: failed")
    assert others
    assert all(line.startswith("    ") for line in others)


def test_restore_puts_back_what_was_there(output: Output) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    output.start(level="DEBUG")
    assert root.handlers != before
    output.restore()
    assert (root.handlers, root.level) == (before, level)
    log.warning("elsewhere")
    assert output.lines == []


def test_an_extra_cannot_pretend_to_be_something_else(output: Output) -> None:
    output.start()
    log.info("real", extra={"level": "CRITICAL", "time": "never", "logger": "other", "exception": "none"})
    (record,) = output.records
    assert (record["level"], record["logger"], record["message"]) == ("INFO", "gateway.test", "real")
    assert "exception" not in record


def test_a_worker_says_that_the_line_is_its_own() -> None:
    lines: list[bytes] = []
    restore = configure("INFO", "json", lines.append, worker=3)
    try:
        logging.getLogger("gateway").info("mine")
        logging.getLogger("gateway").info("another's", extra={"worker": 1})
    finally:
        restore()
    assert [json.loads(line)["worker"] for line in lines] == [3, 1]
