from gateway.policy.budget import BudgetSettings, RetryBudget


def budget(ratio: float = 0.2, min_per_second: float = 0.0, window: float = 10.0) -> RetryBudget:
    return RetryBudget(BudgetSettings(ratio, min_per_second, window), clock=lambda: 100.0)


def spend(budget: RetryBudget, now: float) -> int:
    """How many retries it allows at this moment."""
    spent = 0
    while budget.try_spend(now):
        spent += 1
        assert spent < 100_000
    return spent


def test_retries_are_a_share_of_requests() -> None:
    made = budget(ratio=0.2)
    assert not made.try_spend(100.0)
    for _ in range(10):
        made.request(100.0)
    assert spend(made, 100.5) == 2
    for _ in range(5):
        made.request(101.0)
    assert spend(made, 101.0) == 1
    assert repr(made) == "<RetryBudget 3 retries, 15 requests>"


def test_the_reserve_serves_upstreams_with_little_traffic() -> None:
    made = budget(ratio=0.0, min_per_second=3.0)
    assert spend(made, 100.0) == 30
    assert spend(made, 109.9) == 0
    assert spend(made, 110.0) == 30


def test_requests_and_retries_leave_the_window_together() -> None:
    made = budget(ratio=0.5)
    for _ in range(10):
        made.request(100.0)
    assert spend(made, 100.9) == 5
    for _ in range(4):
        made.request(105.0)
    assert spend(made, 109.99) == 2, "the first cell still counts"
    assert spend(made, 110.0) == 0, "its ten requests are gone, and its five retries"
    assert repr(made) == "<RetryBudget 2 retries, 4 requests>"
    assert spend(made, 115.0) == 0
    assert repr(made) == "<RetryBudget 2 retries, 0 requests>"
    spend(made, 119.0)
    assert repr(made) == "<RetryBudget 0 retries, 0 requests>"


def test_a_long_silence_forgets_everything() -> None:
    made = budget()
    for second in range(10):
        for _ in range(100):
            made.request(100.0 + second)
    assert made.try_spend(109.0)
    assert not made.try_spend(1e9)
    made.request(1e9)
    assert repr(made) == "<RetryBudget 0 retries, 1 requests>"


def test_a_clock_read_a_moment_earlier_is_no_harm() -> None:
    made = budget(ratio=1.0)
    made.request(103.5)
    made.request(102.9)
    assert spend(made, 103.0) == 2


def test_other_windows_have_ten_cells_too() -> None:
    made = budget(ratio=1.0, window=1.0)
    made.request(100.0)
    assert made.try_spend(100.95)
    made.request(101.05)
    assert repr(made) == "<RetryBudget 1 retries, 1 requests>", "the request of 100.0 is gone, the retry of 100.95 not"
