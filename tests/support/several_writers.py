"""A process that writes lines through `LineWriter`: `NAME COUNT` to its standard output, `NAME COUNT DIRECTORY` to the
log file of the day, which is set aside again and again."""

import sys
import time
from pathlib import Path

from gateway.telemetry.log import files as log_files
from gateway.telemetry.log.lines import LineWriter

LENGTHS = (10, 300, 5_000, 40, 150_000, 1_000)
"""Shorter and longer than PIPE_BUF, and than a pipe."""


def line(name: str, number: int) -> bytes:
    """Whoever gets a part of it alone notices."""
    body = name * LENGTHS[number % len(LENGTHS)]
    return f"<{name} {number} {body}>\n".encode()


def main() -> None:
    """Write them all."""
    name, count = sys.argv[1], int(sys.argv[2])
    if len(sys.argv) > 3:
        return to_files(name, count, Path(sys.argv[3]))
    writer = LineWriter(sys.stdout.fileno(), capacity_bytes=1 << 30, batch_delay=0.001)
    for number in range(count):
        writer.write(line(name, number))
    assert writer.close(60)
    assert not writer.dropped
    return None


def to_files(name: str, count: int, directory: Path) -> None:
    """Write them all, in many batches."""
    log_files.KEPT_PARTS = 1_000_000
    file = log_files.DayFile(directory, "gateway", retention_days=3, max_bytes=20_000)
    for number in range(count):
        file.write(f"{name} {number} {name * 100}\n".encode())
        time.sleep(0.001)
    assert file.close(60)
    assert not file.dropped


if __name__ == "__main__":
    main()
