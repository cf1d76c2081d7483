"""Starting workers: how long a slot waits for the next one, and what is left of a start that could not be."""

import errno
import resource
from itertools import count, islice
from pathlib import Path

import pytest

from gateway.ipc.channel import Reply
from gateway.supervisor.crew import pause_after
from gateway.supervisor.process import spawn

FILES = 10
"""What a start opens in this process: three pairs of sockets, a file for the stacks, and three for the new process."""


@pytest.mark.parametrize(
    ("deaths", "seconds"),
    [(0, 0.0), (1, 0.0), (2, 0.5), (3, 1.0), (4, 2.0), (7, 16.0), (8, 30.0), (9, 30.0), (5000, 30.0)],
)
def test_the_pause_doubles_with_each_death_up_to_a_longest(deaths: int, seconds: float) -> None:
    assert pause_after(deaths) == seconds


def test_the_pause_is_known_after_however_many_deaths() -> None:
    assert pause_after(10**6) == pause_after(12)


def nothing(_operation: str, _body: object, _reply: Reply) -> None:
    """No call comes from a worker that was not started."""


def open_files() -> set[int]:
    # The folder itself is open only while it is read.
    return {int(each.name) for each in list(Path("/proc/self/fd").iterdir()) if each.exists()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("room", range(FILES))
async def test_a_worker_that_cannot_be_started_leaves_no_file_open(room: int) -> None:
    before = open_files()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_too_many = next(islice((fd for fd in count() if fd not in before), room, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_too_many, limits[1]))
    try:
        with pytest.raises(OSError) as raised:  # noqa: PT011 - the number is looked at
            await spawn(0, "0-1", {}, nothing, nothing)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert raised.value.errno == errno.EMFILE
    assert open_files() == before
