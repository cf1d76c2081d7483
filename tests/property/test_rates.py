"""The cells against a scan of everything that happened."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.reasons import CATEGORIES
from gateway.telemetry.services.cells import (
    CELL,
    ERRORS,
    FAILED,
    FIRST_CATEGORY,
    FIRST_REFUSED,
    HORIZON,
    REQUESTS,
    WIDTH,
    ServiceCells,
)

START = 50_000.0

gaps = st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 30.0), st.floats(0.0, 2000.0))
events = st.tuples(
    gaps,
    st.sampled_from(["request", "failed", "error", "refusal", "failed refusal", "take"]),
    st.sampled_from(CATEGORIES),
)


def vector(kind: str, category: str) -> list[int]:
    found = [0] * WIDTH
    if kind != "error":
        found[REQUESTS] = 1
        found[FAILED] = kind in {"failed", "failed refusal"}
    if kind in {"error", "refusal", "failed refusal"}:
        found[FIRST_CATEGORY + CATEGORIES.index(category)] = 1
        found[ERRORS] = kind != "refusal"
        found[FIRST_REFUSED + CATEGORIES.index(category)] = kind == "refusal"
    return found


@given(st.lists(events, max_size=60), st.floats(1.0, HORIZON), st.floats(0.0, 100.0))
def test_a_window_counts_what_a_scan_counts(
    happened: list[tuple[float, str, str]], window: float, later: float
) -> None:
    cells = ServiceCells("orders", START)
    scan: list[tuple[float, list[int]]] = []
    taken = [0] * WIDTH
    now = START
    for gap, kind, category in happened:
        now += gap
        if kind == "take":
            delta = cells.take()
            if delta is not None:
                began, counts = delta
                assert START <= began <= now
                taken = [before + more for before, more in zip(taken, counts, strict=True)]
            continue
        scan.append((now, vector(kind, category)))
        if kind == "request":
            cells.request(now)
        elif kind == "failed":
            cells.failed_request(now)
        elif kind == "error":
            cells.error(now, category)
        elif kind == "refusal":
            cells.refusal(now, category)
        else:
            cells.failed_refusal(now, category)

    now += later
    first = (now - window) // CELL * CELL
    assert cells.counts(window, now) == [
        sum(column) for column in zip([0] * WIDTH, *(each for at, each in scan if at >= first), strict=True)
    ]
    delta = cells.take()
    rest = delta[1] if delta is not None else [0] * WIDTH
    everything = [sum(column) for column in zip([0] * WIDTH, *(each for _, each in scan), strict=True)]
    assert [before + more for before, more in zip(taken, rest, strict=True)] == everything
