"""Log files: days, sizes, deletion, retention. The writer's thread is real, the clock is the test's."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.telemetry.log import application
from gateway.telemetry.log.access import AccessLog, BothAccessLogs, beside_file
from gateway.telemetry.log.files import KEPT_PARTS, DayFile, LogFiles, error_line
from gateway.telemetry.services.errors import ErrorRecord
from tests.support.tickets import record
from tests.support.waiting import eventually

DAY = 86_400.0
NOON = time.mktime((2026, 3, 10, 12, 0, 0, 0, 0, -1))


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Bench:
    def __init__(self, directory: Path, retention_days: int = 3, max_bytes: int = 1 << 30) -> None:
        self.clock = Clock()
        self.directory = directory
        self.file = DayFile(directory, "gateway", retention_days=retention_days, max_bytes=max_bytes, clock=self.clock)
        self.written: list[bytes] = []

    def write(self, *lines: bytes) -> None:
        """Write, and wait until they are in the files."""
        for line in lines:
            self.file.write(line + b"\n")
        self.written += lines
        eventually(lambda: lines[-1] in self.content(), "written")

    def content(self) -> bytes:
        found = b""
        for path in sorted(self.directory.glob("gateway-*.log")):
            with suppress(FileNotFoundError):  # it may be renamed or removed meanwhile
                found += path.read_bytes()
        return found

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path / "logs")
    yield found
    found.file.close()


def test_the_directory_and_the_days_file_are_made_with_the_first_line(bench: Bench) -> None:
    assert not bench.directory.exists()
    bench.write(b"one", b"two")
    assert bench.names() == ["gateway-20260310.log"]
    assert bench.content() == b"one\ntwo\n"
    assert (bench.directory / "gateway-20260310.log").stat().st_mode & 0o007 == 0


def test_each_day_has_its_file_and_old_days_go(bench: Bench) -> None:
    foreign = ["gateway-20260301.log.gz", "gateway-notes.log", "other-20260301.log"]
    bench.write(b"first")
    for name in foreign:
        (bench.directory / name).touch()
    for day in range(1, 5):
        bench.clock.now = NOON + day * DAY
        bench.write(b"day %d" % day)
    assert bench.names() == sorted(["gateway-20260312.log", "gateway-20260313.log", "gateway-20260314.log", *foreign])
    assert (bench.directory / "gateway-20260313.log").read_bytes() == b"day 3\n"


@pytest.mark.parametrize("how", ["deleted", "moved", "directory"])
def test_a_file_that_was_taken_away_is_opened_again(bench: Bench, how: str) -> None:
    bench.write(b"one")
    path = bench.directory / "gateway-20260310.log"
    if how == "moved":
        path.rename(bench.directory / "aside")
    else:
        path.unlink()
    if how == "directory":
        bench.directory.rmdir()
    bench.write(b"two")
    assert path.read_bytes() == b"two\n"


def test_a_file_that_is_full_is_set_aside(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_bytes=100)
    lines = [b"%03d" % i + b"x" * 56 for i in range(30)]
    for line in lines:
        bench.write(line)
    bench.file.close()
    kept = [line for line in lines if line in bench.content()]
    assert kept == lines[-(KEPT_PARTS + 1) :]
    assert len(bench.names()) == KEPT_PARTS + 1
    assert "gateway-20260310.29.log" in bench.names(), "the numbers go on growing"
    for path in tmp_path.iterdir():
        assert path.stat().st_size <= 100


def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    one, other = Bench(tmp_path, max_bytes=200), Bench(tmp_path, max_bytes=200)
    for i in range(12):
        one.write(b"one %02d" % i + b"." * 40)
        other.write(b"other %02d" % i + b"." * 40)
    one.file.close()
    other.file.close()
    lines = one.content().splitlines()
    assert sorted(lines) == sorted(one.written + other.written)
    assert len(one.names()) > 3


def test_a_directory_that_cannot_be_written_loses_lines_says_so_and_recovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "logs"
    in_the_way.write_text("a file")
    bench = Bench(in_the_way)
    with caplog.at_level("WARNING", "gateway.telemetry.log.files"):
        bench.file.write(b"lost\n")
        eventually(lambda: bench.file.dropped == 1, "counted")
        bench.file.write(b"lost, too\n")
        eventually(lambda: bench.file.dropped == 2, "counted")
    in_the_way.unlink()
    bench.write(b"kept")
    bench.file.close()
    assert bench.content() == b"kept\n"
    # Once, on standard output, which is not the file.
    (record,) = [each for each in caplog.records if each.name == "gateway.telemetry.log.files"]
    assert str(in_the_way) in record.getMessage()
    assert "File exists" in record.getMessage()


def test_a_disk_that_is_full_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    day = time.strftime("%Y%m%d", time.localtime(bench.clock()))
    (tmp_path / f"gateway-{day}.log").symlink_to("/dev/full")
    with caplog.at_level("WARNING", "gateway.telemetry.log.files"):
        bench.file.write(b"lost\n")
        eventually(lambda: bench.file.dropped == 1, "counted")
    assert "No space left on device" in caplog.text
    bench.file.close()


def test_closing_loses_nothing_and_leaves_no_descriptor(bench: Bench) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    bench.write(b"first")
    lines = [b"line %d" % i for i in range(5000)]
    for line in lines:
        bench.file.write(line + b"\n")
    assert bench.file.close()
    assert bench.content().splitlines() == [b"first", *lines]
    assert bench.file.dropped == 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before


RECORD = ErrorRecord(
    1_700_000_000.5, "r-1", "c-1", "orders", "Timeout", "upstream_timeout", None, 2, "upstream orders: no answer", True
)


def test_the_line_of_a_record_is_json_and_ends_with_its_service() -> None:
    line = error_line(RECORD)
    assert line.endswith(b"\n")
    assert line.split()[-1] == b'"orders"}'
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "ERROR",
        "logger": "gateway.errors",
        "message": "upstream orders: no answer",
        "request_id": "r-1",
        "correlation_id": "c-1",
        "category": "Timeout",
        "reason": "upstream_timeout",
        "status": None,
        "attempt": 2,
        "service": "orders",
    }
    refused = error_line(RECORD._replace(counts=False, status=429, reason="rate_limited"))
    assert json.loads(refused)["level"] == "WARNING"


def test_both_files_get_what_is_theirs(tmp_path: Path) -> None:
    out: list[bytes] = []
    files = LogFiles(str(tmp_path), retention_days=1, max_bytes=1 << 20, clock=Clock())
    restore = application.configure("INFO", "text", out.append, files.handlers())
    try:
        logging.getLogger("gateway.circuit").warning("Circuit breaker OPENED for upstream %s", "orders")
        logging.getLogger("gateway").error("it broke")
    finally:
        restore()
    files.record(RECORD)
    access = beside_file(out.append, files.write, "text")
    entry: dict[str, object] = {"request_id": "r-9", "client": "10.0.0.1", "status": 400, "attempts": 0}
    access.write(entry, NOON)
    beside_file(out.append, files.write, "json").write(entry, NOON)
    files.close()
    assert files.dropped == 0
    everything = [json.loads(line) for line in (tmp_path / "gateway-20260310.log").read_bytes().splitlines()]
    errors = [json.loads(line) for line in (tmp_path / "errors-20260310.log").read_bytes().splitlines()]
    assert [each.get("message", each["request_id"] if "client" in each else None) for each in everything] == [
        "Circuit breaker OPENED for upstream orders",
        "it broke",
        "upstream orders: no answer",
        "r-9",
        "r-9",
    ]
    assert [each["message"] for each in errors] == ["it broke", "upstream orders: no answer"]
    assert len(out) == 4
    assert [line.startswith(b"{") for line in out] == [False, False, False, True]


def test_durations_are_rounded_alike_whatever_standard_output_gets() -> None:
    text: list[bytes] = []
    file: list[bytes] = []
    only: list[bytes] = []
    for log in (BothAccessLogs(text.append, file.append), AccessLog(only.append)):
        known = {"client": "192.0.2.1", "method": "GET", "target": "/", "route": "a", "upstream": "a"}
        log.exchange(record(known, bytes_out=2, upstream_seconds=0.0012345678, attempts=1), 0.0060874080008943565, 0.5)
    for (line,) in (file, only):
        entry = json.loads(line)
        assert (entry["duration_ms"], entry["upstream_ms"]) == (6.087, 1.235)
    assert b" 200 6.087ms " in text[0]
    assert b" upstream_ms=1.235 " in text[0]
