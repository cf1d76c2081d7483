"""What several processes write to one standard output comes out in whole lines."""

import fcntl
import os
import select
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.telemetry.log.lines import LineWriter, _whole_lines
from tests.support import several_writers
from tests.support.several_writers import line

NAMES = "abcd"
COUNT = 120


def written_to(fd: int) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", several_writers.__name__]
    return [subprocess.Popen([*command, name, str(COUNT)], stdout=fd) for name in NAMES]


def check(lines: Iterator[bytes]) -> None:
    found = defaultdict(list)
    for each in lines:
        found[chr(each[1])].append(each)
    assert sorted(found) == list(NAMES)
    for name, of_one in found.items():
        # Whole, all there, and in the order in which the process wrote them.
        assert of_one == [line(name, number) for number in range(COUNT)]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_four_processes_and_a_slow_reader(kind: str) -> None:
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        ends = socket.socketpair()
        reading, writing = ends[0].detach(), ends[1].detach()
    processes = written_to(writing)
    os.close(writing)
    received = bytearray()
    while data := os.read(reading, 100_000):
        received += data
        time.sleep(0.0005)
    os.close(reading)
    assert [process.wait() for process in processes] == [0] * len(NAMES)
    check(iter(bytes(received).splitlines(keepends=True)))


def test_four_processes_share_the_file_of_the_day_and_set_it_aside_together(tmp_path: Path) -> None:
    command = [sys.executable, "-m", several_writers.__name__]
    processes = [subprocess.Popen([*command, name, "600", str(tmp_path)]) for name in NAMES]
    assert [process.wait() for process in processes] == [0] * len(NAMES)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 3
    lines = [each for path in files for each in path.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name} {number} {name * 100}" for name in NAMES for number in range(600))


def test_a_file_gets_whole_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("ab") as file:
        processes = written_to(file.fileno())
    assert [process.wait() for process in processes] == [0] * len(NAMES)
    check(iter(path.read_bytes().splitlines(keepends=True)))


def test_a_process_that_dies_with_the_lock_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl,time;fcntl.lockf(1,fcntl.LOCK_EX);open(0).read()"],
        stdin=subprocess.PIPE,
        stdout=writing,
    )
    while True:
        try:
            fcntl.lockf(writing, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            break
        fcntl.lockf(writing, fcntl.LOCK_UN)
        time.sleep(0.01)
    writer = LineWriter(writing, batch_delay=0.001)
    writer.write(b"waits\n")
    assert not select.select([reading], [], [], 0.2)[0]
    holder.kill()
    holder.communicate()
    assert select.select([reading], [], [], 30)[0]
    assert os.read(reading, 100) == b"waits\n"
    assert writer.close()
    os.close(reading)
    os.close(writing)


def test_without_locks_pieces_are_whole_lines_of_at_most_pipe_buf(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    write = os.write

    def noted(fd: int, data: bytes) -> int:
        pieces.append(bytes(data))
        return write(fd, data)

    monkeypatch.setattr("gateway.telemetry.log.lines.os.write", noted)
    reading, writing = os.pipe()
    writer = LineWriter(writing, batch_delay=0.001)
    writer._lockable = False
    lines = [b"%d %s\n" % (number, b"x" * (number * 7)) for number in range(300)]
    for each in [*lines, b"y" * 10_000 + b"\n"]:
        writer.write(each)
    received = b""
    while len(received) < sum(map(len, lines)) + 10_001:
        received += os.read(reading, 100_000)
    assert writer.close()
    assert b"".join(pieces) == received
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert all(len(piece) <= select.PIPE_BUF for piece in pieces[:-1])
    assert len(pieces[-1]) == 10_001
    os.close(reading)
    os.close(writing)


def test_the_length_of_whole_lines() -> None:
    assert _whole_lines(memoryview(b"a\nb\n")) == 4
    assert _whole_lines(memoryview(b"a\nb")) == 2
    assert _whole_lines(memoryview(b"a" * 5000 + b"\nb\n")) == 5001
    assert _whole_lines(memoryview(b"a" * 5000)) == 5000
