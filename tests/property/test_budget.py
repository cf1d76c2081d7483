"""The retry budget against its definition, computed from the full history."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.budget import BudgetSettings, RetryBudget

# Instants in 64ths of a second, so that sums are exact and the cells of test and budget cannot differ by rounding.
_STEP = st.tuples(st.one_of(st.integers(0, 80), st.integers(0, 2000)), st.booleans())


@given(
    st.lists(_STEP, max_size=150),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_spends_exactly_what_the_window_allows(
    steps: list[tuple[int, bool]], ratio: float, min_per_second: float
) -> None:
    start = 1000.0
    budget = RetryBudget(BudgetSettings(ratio, min_per_second, window=10.0), clock=lambda: start)
    now = start
    requests: list[int] = []
    retries: list[int] = []
    for elapsed, is_request in steps:
        now += elapsed / 64
        cell = int(now - start)
        if is_request:
            budget.request(now)
            requests.append(cell)
            continue
        in_window = sum(cell - 10 < other for other in requests)
        retried = sum(cell - 10 < other for other in retries)
        allowed = retried + 1 <= ratio * in_window + min_per_second * 10.0
        assert budget.try_spend(now) == allowed
        if allowed:
            retries.append(cell)


@given(st.lists(_STEP, max_size=150))
def test_never_more_retries_than_the_definition_in_any_ten_seconds_that_end_with_one(
    steps: list[tuple[int, bool]],
) -> None:
    settings = BudgetSettings(ratio=0.2, min_per_second=0.5, window=10.0)
    budget = RetryBudget(settings, clock=lambda: 0.0)
    now = 0.0
    requests: list[float] = []
    retries: list[float] = []
    for elapsed, is_request in steps:
        now += elapsed / 64
        if is_request:
            budget.request(now)
            requests.append(now)
        elif budget.try_spend(now):
            retries.append(now)
            # The window of the budget is between nine and ten seconds long; the requests of ten bound its retries.
            lately = sum(now - 9.0 < instant for instant in retries)
            assert lately <= settings.ratio * sum(now - 10.0 <= instant for instant in requests) + 5.0
