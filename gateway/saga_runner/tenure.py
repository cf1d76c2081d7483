"""For how long a process may work on a run, and how it holds on to it while an attempt lasts.

    held_until                        somebody else may take the run
    held_until - MARGIN               nothing is begun any more, and nobody waits for a renewal any more
    every RENEW seconds               the lease is renewed, for another LEASE

So whatever the journal does, no request of a run is under way when its lease is over: a renewal that fails, or that has
no answer in time, ends the attempt.
"""

import asyncio
import time
from typing import Final

from gateway.journal import sagas
from gateway.journal.port import Journal, JournalUnavailable
from gateway.saga_runner.job import Job

LEASE: Final = 6.0
RENEW: Final = 2.0
# What may pass between the last look at the clock and the first byte, and until a connection is closed.
MARGIN: Final = 0.5


class LostError(Exception):
    """Somebody else may work on the run."""


def check(job: Job) -> None:
    """Raises LostError when the lease may be over before an attempt that begins now has begun."""
    if time.monotonic() > job.held_until - MARGIN:
        raise LostError


async def renew(journal: Journal, job: Job) -> None:
    """Hold the run for another `LEASE`. Raises LostError when it may be somebody else's, and when the journal does not
    answer while the lease lasts."""
    began = time.monotonic()
    asked = journal.transact(sagas.renew(job.lease, LEASE))
    asked.add_done_callback(_look)
    # Not cancelled: a renewal that is only late does no harm, for it compares owner and fence.
    done, _ = await asyncio.wait({asked}, timeout=max(0.0, job.held_until - MARGIN - began))
    if not done:
        raise LostError
    try:
        held = asked.result()
    except JournalUnavailable:
        # It is tried once more while there is time for that.
        held = time.monotonic() < job.held_until - RENEW
    else:
        job.held_until = began + LEASE
    if not held:
        raise LostError


def _look(asked: "asyncio.Future[bool]") -> None:
    """An exception at which nobody has looked is logged by asyncio."""
    if not asked.cancelled():
        asked.exception()
