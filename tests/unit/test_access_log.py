"""Access log lines, and the writer that carries them, on real pipes."""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.digits import decimal, milliseconds
from gateway.telemetry.log.access import AccessLog, beside_file
from gateway.telemetry.log.lines import LineWriter
from gateway.telemetry.log.render import rfc3339
from tests.support.tickets import record
from tests.support.waiting import eventually

ENTRY: dict[str, object] = {
    "request_id": "r-1",
    "correlation_id": "r-1",
    "client": "203.0.113.9",
    "method": "GET",
    "target": "/proxy/ok?x=%2F",
    "route": "default",
    "upstream": "default",
    "endpoint": "127.0.0.1:5001",
    "status": 200,
    "bytes_in": 0,
    "bytes_out": 261,
    "duration_ms": 1.234,
    "upstream_ms": 0.987,
    "attempts": 1,
    "decisions": {"rate_limit": "allowed"},
    "reason": None,
}


def rendered(entry: dict[str, object], log_format: str = "json", now: float = 1_700_000_000.5) -> bytes:
    lines: list[bytes] = []
    AccessLog(lines.append, "text" if log_format == "text" else "json").write(entry, now)
    (line,) = lines
    return line


def test_a_json_line_is_the_entry_with_the_time_in_front() -> None:
    line = rendered(ENTRY)
    assert line.startswith(b'{"time":"2023-11-14T22:13:20.500Z","request_id":"r-1",')
    assert json.loads(line) == {"time": "2023-11-14T22:13:20.500Z", **ENTRY}
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")


@given(st.integers(0, 10**15))
def test_digits_are_those_of_the_number(number: int) -> None:
    assert decimal(number) == str(number).encode()


@given(st.integers(0, 10**12))
def test_milliseconds_have_three_decimals(microseconds: int) -> None:
    whole, thousandths = divmod(microseconds, 1000)
    assert milliseconds(microseconds / 1e6) == b"%d.%03d" % (whole, thousandths)
    assert milliseconds((microseconds + 0.4) / 1e6) == b"%d.%03d" % (whole, thousandths)


def test_the_entry_is_left_as_it_was() -> None:
    entry = dict(ENTRY)
    rendered(entry)
    assert entry == ENTRY


@given(st.lists(st.floats(0, 4_000_000_000), min_size=1, max_size=5))
def test_the_time_is_right_whatever_second_was_formatted_before(instants: list[float]) -> None:
    lines: list[bytes] = []
    log = AccessLog(lines.append)
    for instant in instants:
        log.write({"status": 200}, instant)
    assert [json.loads(line)["time"] for line in lines] == [rfc3339(instant) for instant in instants]


@given(st.dictionaries(st.sampled_from(sorted(ENTRY)), st.text() | st.binary() | st.integers(), min_size=1))
def test_whatever_a_client_sends_it_is_one_json_line(entry: dict[str, object]) -> None:
    line = rendered(entry)
    assert line.count(b"\n") == 1
    assert set(json.loads(line)) == {"time", *entry}


def test_undecodable_text_and_huge_numbers_are_kept_readable() -> None:
    line = rendered({"target": "/\udcff", "bytes_in": 2**80, "client": b"\xff", "decisions": {1: ("a", {"b"})}})
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.500Z",
        "target": "/\\udcff",
        "bytes_in": str(2**80),
        "client": "\\xff",
        "decisions": {"1": ["a", ["b"]]},
    }


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_request_refused_at_once_has_the_line_of_any_other(log_format: Literal["json", "text"]) -> None:
    lines: list[bytes] = []
    log = AccessLog(lines.append, log_format)
    refused = record(
        {"client": "192.0.2.1", "method": "GET", "target": '/"', "route": "a", "upstream": "b"},
        correlation_id=b"c",
        status=503,
        bytes_out=268,
        decisions={"rate_limit": "allowed", "circuit": 'it "failed"'},
        reason="circuit_open",
    )
    log.exchange(refused, 0.0, 1_700_000_000.5)
    log.refusal(refused, log.prepare_refusal(refused), 1_700_000_000.5)
    assert lines[0] == lines[1]
    assert b"circuit_open" in lines[0]


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("beside", [False, True])
def test_without_queries_no_line_has_what_follows_the_path(beside: bool, log_format: Literal["json", "text"]) -> None:
    lines: list[bytes] = []
    if beside:
        log = beside_file(lines.append, lines.append, log_format, query=False)
    else:
        log = AccessLog(lines.append, log_format, query=False)
    asked = record(
        {
            "client": "192.0.2.1",
            "method": "GET",
            "target": "/people?email=a@b.test&q=c?d",
            "route": "a",
            "upstream": "b",
        },
        correlation_id=b"c",
        status=503,
        bytes_out=268,
        decisions={},
        reason="circuit_open",
    )
    log.exchange(asked, 0.0, 1_700_000_000.5)
    log.refusal(asked, log.prepare_refusal(asked), 1_700_000_000.5)
    assert len(lines) == (4 if beside else 2)
    assert all(b"/people" in line and b"email" not in line and b"?" not in line for line in lines)


@pytest.mark.parametrize(
    "character", "\x7f\x80\x85\x9b\x9f\u00ad\u061c\u200b\u200f\u2028\u2029\u202e\u2066\ufeff\U000e0041"
)
def test_what_is_not_seen_is_escaped_in_json(character: str) -> None:
    lines: list[bytes] = []
    log = AccessLog(lines.append)
    target = f"/proxy/a{character}b\u00e4\u20ac\U0001f600"
    log.write({**ENTRY, "target": target, "reason": character}, 0.0)
    log.exchange(record({"client": "c", "target": target}, attempts=1, decisions={"circuit": character}), 0.0, 0.0)
    for line in lines:
        assert character not in line.decode()
        assert "b\u00e4\u20ac\U0001f600" in line.decode()
        assert json.loads(line)["target"] == target


def test_a_text_line_reads_from_left_to_right() -> None:
    assert rendered(ENTRY, "text").decode() == (
        '2023-11-14T22:13:20.500Z 203.0.113.9 GET "/proxy/ok?x=%2F" 200 1.234ms route=default upstream=default'
        " endpoint=127.0.0.1:5001 bytes_in=0 bytes_out=261 upstream_ms=0.987 attempts=1"
        " decisions=rate_limit:allowed id=r-1\n"
    )


def test_a_text_line_without_an_upstream_is_shorter() -> None:
    entry: dict[str, object] = {"client": None, "target": None, "status": 400, "reason": "bad_request", "decisions": {}}
    assert rendered(entry, "text").decode() == "2023-11-14T22:13:20.500Z - - - 400 - reason=bad_request\n"


@given(st.dictionaries(st.sampled_from(sorted(ENTRY)), st.text() | st.binary(), min_size=1))
def test_nothing_breaks_out_of_a_text_line(entry: dict[str, object]) -> None:
    line = rendered(entry, "text").decode()
    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_a_forged_line_and_a_forged_field_stay_inside_their_value() -> None:
    line = rendered({**ENTRY, "target": '/x" 200 1ms\n2023 evil\x1b[2J\u202e', "reason": "a b=c"}, "text").decode()
    assert line.count("\n") == 1
    assert r'"/x\" 200 1ms\n2023 evil\x1b[2J\u202e"' in line
    assert 'reason="a b=c"' in line


class Pipe:
    """A pipe of which the reading end can be left alone, drained or closed."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.received = bytearray()

    def drain(self) -> bytes:
        """Everything up to the end; the writing end must be closed by then or soon."""
        while chunk := os.read(self.reading, 1 << 20):
            self.received += chunk
        return bytes(self.received)

    def close_writing(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def close_reading(self) -> None:
        if self.reading >= 0:
            os.close(self.reading)
            self.reading = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close_writing()
    pipe.close_reading()


def reader_of(pipe: Pipe) -> threading.Thread:
    thread = threading.Thread(target=pipe.drain)
    thread.start()
    return thread


def test_a_clean_stop_loses_nothing_and_keeps_the_order(pipe: Pipe) -> None:
    reader = reader_of(pipe)
    writer = LineWriter(pipe.writing)
    lines = [b"%d %s\n" % (number, b"x" * (number % 300)) for number in range(50_000)]
    for line in lines:
        writer.write(line)
    assert writer.close()
    pipe.close_writing()
    reader.join()
    assert bytes(pipe.received) == b"".join(lines)
    assert writer.dropped == 0


def test_lines_of_several_threads_are_whole_and_each_threads_are_in_order(pipe: Pipe) -> None:
    reader = reader_of(pipe)
    writer = LineWriter(pipe.writing, batch_bytes=1000, batch_delay=0.001)

    def talk(name: int) -> None:
        for number in range(5_000):
            writer.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=talk, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.close()
    pipe.close_writing()
    reader.join()
    pairs = [tuple(map(int, line.split())) for line in bytes(pipe.received).splitlines()]
    for name in range(4):
        assert [number for who, number in pairs if who == name] == list(range(5_000))


def test_a_single_line_comes_out_without_another_behind_it(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, batch_delay=0.01)
    for number in range(5):
        writer.write(b"%d\n" % number)
        assert os.read(pipe.reading, 100) == b"%d\n" % number
    assert writer.close()


def test_a_full_batch_does_not_wait_for_the_delay(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, batch_bytes=1000, batch_delay=3600)
    writer.write(b"x" * 1000 + b"\n")
    writer.write(b"y" * 1000 + b"\n")
    assert os.read(pipe.reading, 1) == b"x"
    assert writer.close()


def test_a_reader_that_stops_costs_lines_and_never_time(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    writer = LineWriter(pipe.writing, capacity_bytes=1_000_000, batch_delay=0.001)
    line = b"x" * 99 + b"\n"
    longest = 0.0
    for _ in range(30_000):
        before = time.perf_counter()
        writer.write(line)
        longest = max(longest, time.perf_counter() - before)
    assert longest < 1.0
    # What the pipe itself holds (64 KiB and what one more write takes) has left the buffer.
    assert 30_000 - 10_000 - 3_000 <= writer.dropped <= 30_000 - 10_000
    dropped = writer.dropped
    reader = reader_of(pipe)
    eventually(lambda: bool(caplog.records), "told")
    assert [(each.getMessage(), vars(each)["lines"]) for each in caplog.records] == [
        ("log lines were dropped", dropped)
    ]
    assert writer.close()
    pipe.close_writing()
    reader.join()
    assert bytes(pipe.received) == line * (30_000 - dropped)


def test_closing_on_a_stuck_reader_takes_no_longer_than_it_may(pipe: Pipe) -> None:
    writer = LineWriter(pipe.writing, batch_delay=0.001)
    for _ in range(3_000):
        writer.write(b"x" * 99 + b"\n")
    before = time.monotonic()
    assert not writer.close(timeout=0.2)
    assert time.monotonic() - before < 2
    writer.write(b"late\n")
    pipe.close_reading()
    writer._writing.join(5)
    assert not writer._writing.is_alive()
    assert writer.dropped > 0


def test_a_reader_that_is_gone_is_survived_and_counted(pipe: Pipe) -> None:
    pipe.close_reading()
    writer = LineWriter(pipe.writing, batch_delay=0.001)
    for _ in range(10):
        writer.write(b"x\n")
    eventually(lambda: writer.dropped == 10, "all dropped")
    writer.write(b"y\n")
    assert writer.close()
    assert writer.dropped == 11


def test_a_non_blocking_descriptor_is_waited_for(pipe: Pipe) -> None:
    flags = fcntl.fcntl(pipe.writing, fcntl.F_GETFL)
    fcntl.fcntl(pipe.writing, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    writer = LineWriter(pipe.writing, batch_delay=0.001)
    lines = [b"%06d%s\n" % (number, b"x" * 93) for number in range(5_000)]
    for line in lines:
        writer.write(line)
    reader = reader_of(pipe)
    assert writer.close()
    pipe.close_writing()
    reader.join()
    assert bytes(pipe.received) == b"".join(lines)


def test_a_stuck_non_blocking_descriptor_is_given_up(pipe: Pipe) -> None:
    flags = fcntl.fcntl(pipe.writing, fcntl.F_GETFL)
    fcntl.fcntl(pipe.writing, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    writer = LineWriter(pipe.writing, batch_delay=0.001)
    for _ in range(3_000):
        writer.write(b"x" * 99 + b"\n")
    assert not writer.close(timeout=0.1)
    writer._writing.join(5)
    assert not writer._writing.is_alive()
    assert 0 < writer.dropped <= 3_000


def test_a_full_disk_tears_one_line_and_no_other(tmp_path: Path) -> None:
    """A file size limit stands in for the disk: the write that crosses it is cut short, the next one fails."""
    script = """
import os, resource, signal, sys, time
from gateway.telemetry.log.lines import LineWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1005, resource.RLIM_INFINITY))
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
writer = LineWriter(fd, batch_delay=0.001)
for _ in range(20):
    writer.write(b"x" * 99 + b"\\n")
while not writer.dropped:
    time.sleep(0.001)
dropped = writer.dropped
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.write(b"y" * 99 + b"\\n")
print(writer.close(), dropped, writer.dropped)
"""
    path = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == "True 10 10\n", done.stderr
    lines = path.read_bytes().splitlines()
    assert lines == [b"x" * 99] * 10 + [b"x" * 5, b"y" * 99]


def test_the_time_format() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_700_000_000.9999) == "2023-11-14T22:13:20.999Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rfc3339(time.time()))
