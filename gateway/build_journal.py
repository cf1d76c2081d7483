"""From the configuration to the journal, and what is counted and logged of it."""

import logging

from gateway.config.model import GatewayConfig
from gateway.journal.opening import journal_of
from gateway.journal.port import Journal, JournalState
from gateway.telemetry.metrics import Metrics

log = logging.getLogger("gateway.journal")


def build_journal(config: GatewayConfig, metrics: Metrics) -> Journal | None:
    """The journal, to be started. None where no route needs one: then there is no file, no connection and no metric."""
    if not config.journal_needed:
        return None

    def changed(state: JournalState) -> None:
        if state.works:
            log.info("the journal works: %s", journal.name, extra={"event": "journal_works"})
        else:
            log.error(
                "the journal cannot be used: %s",
                state.text,
                extra={"event": "journal_failed", "trouble": state.trouble},
            )

    journal = journal_of(config.journal, changed)
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
