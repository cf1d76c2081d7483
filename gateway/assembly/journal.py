"""From the configuration to the journal, and what is counted and logged of it."""

import logging
import time
from collections.abc import Callable
from typing import Final

from gateway.config.model import GatewayConfig
from gateway.journal.opening import make_journal
from gateway.journal.port import Journal, JournalState, Trouble
from gateway.telemetry.metrics.catalogue import Metrics

log = logging.getLogger("gateway.journal")

_QUIET: Final = 10.0


class JournalLines:
    """The log lines about the journal. One that fails now and then, because its disk is slow, fails many times a
    minute: that is one pair of lines every `_QUIET` seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._quiet_until = 0.0
        # What was said last; at the start the journal is not open yet.
        self._said: Trouble | None = "closed"

    def changed(self, state: JournalState) -> None:
        """The journal works, or has failed once more."""
        if state.works:
            if self._said is not None:
                self._said = None
                log.info("the journal works", extra={"event": "journal_works"})
        elif state.trouble != self._said and self._clock() >= self._quiet_until:
            self._said = state.trouble
            self._quiet_until = self._clock() + _QUIET
            extra = {"event": "journal_failed", "trouble": state.trouble}
            log.error("the journal cannot be used: %s", state.text, extra=extra)


def build_journal(config: GatewayConfig, metrics: Metrics) -> Journal | None:
    """The journal, to be started. None where no route needs one: then there is no file, no connection and no metric."""
    if not config.journal_needed:
        return None

    lines = JournalLines(time.monotonic)
    journal = make_journal(config.journal, lines.changed)
    state = journal.state
    metrics.gauge(
        "gateway_journal_up",
        "1 while the journal does what it is asked, for all workers.",
        (),
        lambda: (((), float(state.works)),),
        "min",
    )
    metrics.counter(
        "gateway_journal_operations_total",
        "Operations that were committed to the journal.",
        (),
        lambda: (((), state.operations),),
    )
    metrics.counter(
        "gateway_journal_commits_total",
        "Commits of the journal; in a SQLite file one may carry many operations.",
        (),
        lambda: (((), state.commits),),
    )
    metrics.counter(
        "gateway_journal_failures_total",
        "Times that the journal could not do what it was asked.",
        (),
        lambda: (((), state.failures),),
    )
    return journal
