"""What the log says of the journal: each loss and each return, and not every hiccup."""

import logging

import pytest

from gateway.assembly.journal import JournalLines
from gateway.journal.port import JournalState, JournalUnavailable


def test_a_loss_and_a_return_are_a_line_each_and_hiccups_are_not(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    caplog.set_level(logging.INFO, "gateway.journal")
    state = JournalState(lambda: now, JournalLines(lambda: now).changed)
    state.worked()
    for _ in range(20):
        now += 1.0
        state.failed(JournalUnavailable("timeout", "it did not answer in time"))
        state.failed(JournalUnavailable("timeout", "it did not answer in time"))
        state.worked()
    events = [getattr(record, "event", "") for record in caplog.records]
    assert events == ["journal_works", *["journal_failed", "journal_works"] * 2]
    # One that lasts is told, however shortly it has followed on another.
    for _ in range(20):
        now += 1.0
        state.failed(JournalUnavailable("full", "there is no space left"))
    assert [record.message for record in caplog.records][5:] == ["the journal cannot be used: there is no space left"]


def test_since_when_it_fails_is_when_the_reason_changed() -> None:
    now = 0.0
    state = JournalState(lambda: now)
    state.failed(JournalUnavailable("locked", "somebody has it"))
    now = 3.0
    state.failed(JournalUnavailable("locked", "somebody has it"))
    assert state.since == 0.0
    now = 7.0
    state.failed(JournalUnavailable("schema", "its schema is older"))
    assert (state.since, state.failures, state.works) == (7.0, 3, False)
    state.failed(JournalUnavailable("closed", "the gateway is stopping"))
    assert state.trouble == "schema"
