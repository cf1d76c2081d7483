"""What `python -m gateway` does before it imports anything."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

_LOOK = """
import os, signal, sys
import gateway.__main__
with open(sys.argv[1], "w") as out:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        path = os.readlink(f"/proc/self/fd/{number}")
        print(number, getattr(sys, name).fileno(), os.get_inheritable(number), path, file=out)
    signals = (signal.SIGALRM, signal.SIGHUP, signal.SIGTERM)
    print(*(signal.getsignal(each) is signal.SIG_IGN for each in signals), file=out)
"""


@pytest.mark.parametrize("closed", [(0, 1, 2), (1,), (2,), (0,)])
def test_standard_files_that_are_closed_become_dev_null(closed: tuple[int, ...], tmp_path: Path) -> None:
    """libuv aborts the process when it closes a file of its own whose number is below 3."""
    found = tmp_path / "found"
    shell = 'exec "$@" ' + " ".join(f"{number}>&-" for number in closed)
    command = ["sh", "-c", shell, "sh", sys.executable, "-c", _LOOK, str(found)]
    subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, check=True)
    *files, ignored = found.read_text().splitlines()
    for number, line in enumerate(files):
        assert line.startswith(f"{number} {number} True "), line
        assert line.endswith(" /dev/null") == (number in closed), line
    assert ignored == "True True False"


# Nothing else, and the sources of this checkout where they are not installed (the image for development).
CHECKOUT = {"PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("word", ["check", "routes", "--help", "--version"])
def test_an_output_that_is_full_is_said_in_a_line(word: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "gateway", word]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, env=CHECKOUT, check=False)
    assert (ended.returncode, ended.stderr.decode().splitlines()[-1]) == (
        1,
        "gateway: standard output cannot be written: No space left on device",
    )


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gateway", "--help"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, env=CHECKOUT, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_failure_of_a_command_is_not_taken_for_one_of_the_output(tmp_path: Path) -> None:
    code = "import gateway.cli as cli\ndef failing():\n    raise OSError(28, 'x')\ncli.main = failing\ncli.program()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, text=True, check=False)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "OSError: [Errno 28] x")
