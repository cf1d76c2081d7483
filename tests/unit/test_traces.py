"""Where a trace goes on and where it begins, which are sampled, and what of the others is kept."""

import random
from collections.abc import Mapping

import pytest

from gateway.identity.masking import masked
from gateway.proxy.requests.ids import Ids
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, Record, RouteAccount
from gateway.telemetry.tracing.trace import Trace, Traces
from gateway.telemetry.tracing.tracer import FinishedExchange, Tracer, path_of

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00f067aa0ba902b7"
HEAD = b"GET /a?b=c HTTP/1.1\r\nHost: a\r\ntraceparent: %b\r\n\r\n"


def incoming(flags: bytes = b"01", version: bytes = b"00", rest: bytes = b"") -> bytes:
    return b"%b-%b-%b-%b%b" % (version, TRACE, PARENT, flags, rest)


def made(ratio: float = 1.0, *, parent_based: bool = True, exported: bool = True) -> tuple[Ids, Traces]:
    ids = Ids(random.Random(1))
    return ids, Traces(ids.new, ratio, parent_based=parent_based, exported=exported)


def test_a_trace_that_begins_here_has_the_request_id_and_no_random_flag() -> None:
    ids, traces = made()
    trace = traces.begin(own := ids.new(), None, [])
    assert (trace.trace_id, trace.parent_id, trace.span_id, trace.flags) == (own, b"", own[16:], 1)
    first = trace.traceparent
    assert first[:36] == b"00-%b-" % own
    assert first[36:52] != own[16:]
    assert first[52:] == b"-01"


@pytest.mark.parametrize(
    ("flags", "goes_on"),
    [(b"00", b"00"), (b"01", b"01"), (b"02", b"02"), (b"03", b"03"), (b"ff", b"03"), (b"0c", b"00")],
)
def test_a_trace_that_goes_on_keeps_its_flags_and_no_unknown_one(flags: bytes, goes_on: bytes) -> None:
    ids, traces = made()
    trace = traces.begin(ids.new(), incoming(flags), [b"a=1", b"b=2"])
    assert (trace.trace_id, trace.parent_id, trace.state) == (TRACE, PARENT, b"a=1,b=2")
    assert trace.traceparent[-2:] == goes_on
    assert trace.sampled == (goes_on in {b"01", b"03"})


def test_of_a_later_version_what_is_known_goes_on() -> None:
    ids, traces = made()
    trace = traces.begin(ids.new(), incoming(b"01", b"cc", b"-more"), [])
    assert trace.traceparent.startswith(b"00-%b-" % TRACE)
    assert len(trace.traceparent) == 55


def test_each_attempt_has_an_id_of_its_own_in_its_head() -> None:
    ids, traces = made()
    trace = traces.begin(ids.new(), incoming(), [])
    head = HEAD % trace.traceparent
    heads = [trace.attempt("a", "h:1", head, 1.0, probe=False) for _ in range(3)]
    assert heads == [HEAD % (b"00-%b-%b-01" % (TRACE, each.span_id)) for each in trace.attempts]
    assert len({each.span_id for each in trace.attempts} | {trace.span_id, PARENT}) == 5


def test_an_attempt_beside_another_has_an_id_of_its_own_and_leaves_the_other_alone() -> None:
    ids, traces = made()
    trace = traces.begin(ids.new(), incoming(), [])
    head = HEAD % trace.traceparent
    trace.attempt("a", "h:1", head, 1.0, probe=False)
    other, given = trace.beside("a", "h:2", head, 2.0)
    first, second = trace.attempts
    assert given == HEAD % (b"00-%b-%b-01" % (TRACE, second.span_id))
    assert (first.hedge, second.hedge, first.span_id != second.span_id) == (False, True, True)
    other.settled(4.0, 2.0, answered=True)
    assert (first.ended, second.ended) == (0.0, 4.0)
    trace.failed("superseded", None)
    trace.settled(3.0, 1.0, answered=False)
    assert (first.reason, first.ended, second.reason) == ("superseded", 3.0, "")


def test_what_overlaps_is_counted_once() -> None:
    ids, traces = made()
    trace = traces.begin(ids.new(), None, [])
    assert trace.seconds(9.0) == 0.0
    trace.attempt("a", "h:1", HEAD, 1.0, probe=False)
    other, _ = trace.beside("a", "h:2", HEAD, 2.0)
    assert trace.seconds(3.0) == 2.0
    trace.settled(5.0, 1.0, answered=False)
    other.settled(4.0, 2.0, answered=True)
    assert trace.seconds(9.0) == 4.0
    trace.attempt("a", "h:1", HEAD, 6.0, probe=False)
    assert trace.seconds(9.0) == 7.0


def test_where_nothing_is_exported_the_traceparent_of_a_client_goes_on_as_it_came() -> None:
    ids, traces = made(exported=False)
    trace = traces.begin(ids.new(), incoming(b"09"), [])
    head = HEAD % trace.traceparent
    assert trace.traceparent == incoming(b"09")
    assert [trace.attempt("a", "h:1", head, 1.0, probe=False) for _ in range(2)] == [head, head]
    own = ids.new()
    assert traces.begin(own, None, []).traceparent == traces.traceparent(own) == b"00-%b-%b-01" % (own, own[16:])


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.3, 1.0])
def test_the_share_of_new_traces_is_the_ratio(ratio: float) -> None:
    ids, traces = made(ratio)
    chosen = sum(traces.begin(ids.new(), None, []).sampled for _ in range(10_000))
    assert chosen == pytest.approx(10_000 * ratio, abs=20)


def test_a_sampler_by_ratio_alone_does_not_ask_the_client_and_decides_alike_everywhere() -> None:
    low = b"4bf92f3577b34da60" + b"0" * 15
    for traceparent, sampled in ((b"00-%b-%b-00" % (low, PARENT), True), (incoming(b"01"), False)):
        ids, traces = made(0.5, parent_based=False)
        assert traces.begin(ids.new(), traceparent, []).sampled is sampled


@pytest.mark.parametrize("traceparent", [None, incoming(b"00"), incoming(b"02"), incoming(b"fe", b"cc", b"-more")])
def test_a_trace_that_is_begun_late_is_the_one_that_the_upstream_was_told_of(traceparent: bytes | None) -> None:
    ids, traces = made(0.0)
    own = ids.new()
    assert not traces.samples(own, traceparent)
    assert traces.unsampled(own, traceparent) == traces.begin(own, traceparent, []).traceparent


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("parent_based", [True, False])
def test_what_is_sampled_is_known_before_the_trace_begins(ratio: float, parent_based: bool) -> None:
    ids, traces = made(ratio, parent_based=parent_based)
    for _ in range(200):
        own = ids.new()
        for traceparent in (None, incoming(b"00"), incoming(b"01"), b"00-%b-%b-01" % (own, PARENT)):
            assert traces.samples(own, traceparent) is traces.begin(own, traceparent, []).sampled


# What is kept.


class Kept:
    """A tracer whose exports are in a list."""

    def __init__(self, kept_a_second: int = 2, slow: float = 1.0) -> None:
        self.list: list[FinishedExchange] = []
        self.ids, self.traces = made(0.0)
        self.tracer = Tracer(self.traces, self.list.append, masked, kept_a_second=kept_a_second, slow=slow)
        self.now = 100.0

    def over(
        self, status: int, reason: str = "", seconds: float = 0.1, attempts: int = 1, flags: bytes = b"00"
    ) -> bool:
        trace = self.traces.begin(self.ids.new(), incoming(flags), [])
        for _ in range(attempts):
            trace.attempt("orders", "h:1", HEAD % trace.traceparent, self.now, probe=False)
            trace.settled(self.now, self.now, answered=True)
        record = Record(RouteAccount("a", "orders", RouteCells(), "/a"), LogPart({}), b"1", b"1")
        record.status, record.reason = status, reason
        kept = "" if trace.sampled else self.tracer.keeps(record, attempts, seconds, self.now)
        if kept or trace.sampled:
            self.tracer.export(record, trace, "GET", seconds, self.now, kept)
        return bool(kept or trace.sampled)


@pytest.mark.parametrize(
    ("kept", "exchange"),
    [
        ("error", {"status": 500}),
        ("error", {"status": 504, "reason": "upstream_timeout"}),
        ("error", {"status": 200, "reason": "upstream_truncated"}),
        ("refused", {"status": 429, "reason": "rate_limited"}),
        ("retried", {"status": 200, "attempts": 2}),
        ("slow", {"status": 200, "seconds": 1.0}),
        (None, {"status": 200}),
        (None, {"status": 404}),
        (None, {"status": 499, "reason": "client_closed"}),
        (None, {"status": 101, "seconds": 3600.0}),
        ("", {"status": 200, "flags": b"01"}),
        ("", {"status": 500, "flags": b"01"}),
    ],
)
def test_what_is_kept(kept: str | None, exchange: Mapping[str, object]) -> None:
    tracer = Kept()
    assert tracer.over(**exchange) is (kept is not None)  # type: ignore[arg-type]  # the keywords of `over`
    assert [each.kept for each in tracer.list] == ([] if kept is None else [kept])


def test_the_budget_is_for_each_kind_and_comes_back_every_second() -> None:
    tracer = Kept(kept_a_second=2)
    assert [tracer.over(429, "rate_limited") for _ in range(4)] == [True, True, False, False]
    assert [tracer.over(500) for _ in range(4)] == [True, True, False, False]
    assert tracer.over(200, flags=b"01")
    tracer.now += 0.9
    assert not tracer.over(500)
    tracer.now += 0.1
    assert [tracer.over(500) for _ in range(3)] == [True, True, False]


def test_without_a_budget_only_the_sampled_ones_are_exported() -> None:
    tracer = Kept(kept_a_second=0)
    assert not tracer.over(500)
    assert tracer.over(500, flags=b"01")


def test_slow_may_be_never() -> None:
    assert not Kept(slow=0.0).over(200, seconds=1e6)


def test_what_is_exported_holds_a_path_and_no_head() -> None:
    tracer = Kept()
    tracer.over(500, attempts=2)
    (exported,) = tracer.list
    assert [each.head for each in exported.trace.attempts] == [b"/a", b"/a"]
    assert exported.spans == 3
    assert path_of(b"OPTIONS * HTTP/1.1\r\n\r\n") == b"*"


def test_outcomes_in_one_word() -> None:
    ids, traces = made()
    trace: Trace = traces.begin(ids.new(), None, [])
    trace.attempt("a", "h:1", HEAD % trace.traceparent, 1.0, probe=True)
    assert trace.attempts[0].outcome == "pending"
    trace.settled(2.0, 1.0, answered=True)
    assert trace.attempts[0].outcome == "answered"
    trace.answered(503)
    assert trace.attempts[0].outcome == "503"
    trace.failed("upstream_timeout", None)
    assert trace.attempts[0].outcome == "upstream_timeout"
