"""What one of several workers may use of the caps of the host."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import load
from gateway.config.worker_shares import rounded_up, share, share_of
from gateway.policy.adaptive import AdaptiveSettings


@given(cap=st.integers(1, 10_000), workers=st.integers(1, 64))
def test_the_shares_of_a_cap_sum_up_to_it_or_are_one_each(cap: int, workers: int) -> None:
    shares = [share(cap, workers, slot) for slot in range(workers)]
    assert sum(shares) == max(cap, workers)
    assert max(shares) - min(shares) <= 1


def test_no_queue_stays_no_queue() -> None:
    assert [share(0, 3, slot) for slot in range(3)] == [0, 0, 0]


def test_every_cap_that_is_written_for_the_host_is_divided() -> None:
    config = load(
        {
            "MAX_INFLIGHT": "10",
            "MAX_CONNECTIONS": "100",
            "BULKHEAD_LIMIT": "9",
            "BULKHEAD_QUEUE": "4",
            "UPSTREAM_MAX_CONNECTIONS": "8",
            "MAX_WEBSOCKET_CONNECTIONS": "6",
            "RETRY_BUDGET_MIN_PER_SECOND": "3",
            "ADAPTIVE_LIMIT_MODE": "enforce",
            "ADAPTIVE_LIMIT_MIN": "6",
            "ADAPTIVE_LIMIT_INITIAL": "12",
        },
        None,
    )
    one = share_of(config, 3, 0)
    upstream = one.upstreams["default"]
    assert one.shedding.limit.limit == 4
    assert one.server.max_connections == 34
    assert (upstream.bulkhead.limit, upstream.bulkhead.max_queue) == (3, 2)
    assert upstream.adaptive == AdaptiveSettings(enforce=True, min=2, initial=4)
    assert upstream.max_connections == 3
    assert upstream.budget.min_per_second == 1.0
    assert one.routes[0].max_tunnels == 2
    assert one.rate_limits == config.rate_limits
    assert upstream.breaker == config.upstreams["default"].breaker


def test_one_worker_has_everything() -> None:
    config = load({}, None)
    assert share_of(config, 1, 0) is config


def test_caps_smaller_than_the_number_of_workers_are_named() -> None:
    config = load({"MAX_INFLIGHT": "3"}, None)
    assert rounded_up(config, 2) == []
    assert [str(each) for each in rounded_up(config, 4)] == [
        "WORKERS: smaller than the number of workers (4), and each has at least 1: MAX_INFLIGHT (3)"
    ]
