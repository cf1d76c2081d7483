"""What `python -m gateway` does before it imports anything."""

import subprocess
import sys
from pathlib import Path

import pytest

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
