"""A client's share of the places in flight."""

import asyncio
import random
from typing import cast

import pytest

from gateway.config.sections.shedding.model import SheddingConfig
from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.outcome import SUCCESS
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.gate import PASS
from gateway.proxy.gates.client_share import ClientShareGate
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.recorder import Recorder
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.services.errors import ErrorLog
from tests.support.tickets import ticket

NO_LOOP = cast(asyncio.AbstractEventLoop, None)  # nothing here waits


@pytest.fixture
def gate() -> ClientShareGate:
    """Two of four places for each client, with three of them taken: so that shares are looked at."""
    config = SheddingConfig(LimitSettings(4), client_share=0.5)
    recorder = Recorder(Metrics("gw", [], [], "1"), ErrorLog("gw", []), None, "gw")
    limit = ConcurrencyLimit(config.limit)
    limit.in_flight = 3
    return ClientShareGate(config, InFlightGate(config, limit, recorder, random.Random(1), NO_LOOP))


def test_a_client_has_its_share_and_no_more(gate: ClientShareGate) -> None:
    one, other = ticket(peer="192.0.2.1"), ticket(peer="192.0.2.2")
    for _ in range(2):
        assert gate.check(one) is PASS
        gate.enter(one)
    refusal = gate.check(one)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.status) == ("overloaded", 429)
    assert gate.check(other) is PASS
    gate.leave(one, SUCCESS, 0.0)
    assert gate.check(one) is PASS


def test_nothing_is_kept_of_clients_that_hold_nothing(gate: ClientShareGate) -> None:
    tickets = [ticket(peer=peer) for peer in ("192.0.2.1", "192.0.2.2", "192.0.2.1")]
    for each in tickets:
        gate.enter(each)
    assert gate.held == {"192.0.2.1": 2, "192.0.2.2": 1}
    for each in tickets:
        gate.leave(each, SUCCESS, 0.0)
    assert gate.held == {}
