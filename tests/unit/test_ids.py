"""The ids of requests."""

import random
import re

from gateway.proxy.requests import ids as module
from gateway.proxy.requests.ids import Ids


def test_an_id_is_a_trace_id_and_its_second_half_a_span_id() -> None:
    ids = Ids(random.Random(1))
    made = [ids.new() for _ in range(10_000)]
    assert len(set(made)) == len({each[16:] for each in made}) == 10_000
    assert all(re.fullmatch(rb"[0-9a-f]{32}", each) for each in made)
    assert {each[:16] for each in made} == {made[0][:16]}


def test_the_low_half_is_spread_evenly_so_that_a_share_of_the_ids_is_a_share_of_the_requests() -> None:
    ids = Ids(random.Random(2))
    low = [int(ids.new()[16:], 16) for _ in range(10_000)]
    for share in (0.01, 0.1, 0.5):
        assert abs(sum(each < share * 2**64 for each in low) - share * 10_000) <= 2


def test_when_all_values_have_come_the_next_round_has_other_ids() -> None:
    ids = Ids(random.Random(3))
    first = ids.new()
    ids._n = ids._first - module._K & module._MASK
    begun = ids.new()
    again = ids.new()
    assert again[:24] == first[:24]
    assert int(again[24:], 16) == int(begun[24:], 16) == int(first[24:], 16) + 1


def test_the_highest_bit_of_the_last_number_is_left_for_attempts() -> None:
    assert all(int(Ids(random.Random(seed)).new()[24:], 16) < 2**31 for seed in range(1000))
