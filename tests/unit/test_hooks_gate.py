"""Hooks at their gate: asked in order, bounded, switched off, and never the cause of a malformed message."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.sections.hooks.model import HookConfig, HookLimits
from gateway.hooks import Fields, Refusal, RequestChanges, RequestHead, ResponseChanges, ResponseHead
from gateway.hooks.loading import HookCode
from gateway.identity.tenants import Caller
from gateway.proxy.answers.refusals import Refusal as Refused
from gateway.proxy.gate import PASS, Question
from gateway.proxy.gates.hooks import HooksGate
from gateway.proxy.hooks.changes import ChangeError, RouteRules, changed_path, refusal_of, request_edits, response_edits
from gateway.proxy.ticket import Ticket
from tests.support.tickets import request, ticket

RULES = RouteRules("/a", ("X-Mail",))
LIMITS = HookLimits(slow=3600.0, failures=3, window=10.0, pause=30.0)


def gate_of(
    *hooks: Callable[[RequestHead], object],
    on_failure: Any = "refuse",
    limits: HookLimits = LIMITS,
    clock: Callable[[], float] = lambda: 0.0,
) -> HooksGate:
    configs = [
        HookConfig(f"h{number}", f"m:h{number}", HookCode(each, None), on_failure) for number, each in enumerate(hooks)
    ]
    return HooksGate("a", tuple(configs), limits, RULES, clock)


def returns(value: object) -> Callable[[RequestHead], object]:
    return lambda _head: value


def fails(_head: RequestHead) -> object:
    raise ValueError("a\nb")


def lines_of(one: Ticket) -> bytes:
    assert one.hooked is not None
    return one.hooked.applied(one.request.fields.lines)


# What a hook is shown.


def test_a_hook_is_shown_the_request() -> None:
    shown: list[RequestHead] = []
    one = ticket(request(b"/a/%C3%A9?q=1&r", "X-A: 1", "x-a: 2", "Cookie: a=b", method="PUT"))
    one.caller = Caller("web", "acme", frozenset({"read"}), None, ())
    assert gate_of(shown.append).check(one) is PASS
    (head,) = shown
    assert head[:3] == ("PUT", "/a/%C3%A9", "q=1&r")
    assert (head.host, head.scheme, head.client, head.route) == ("a", "http", "192.0.2.1", "a")
    assert (head.consumer, head.tenant, head.tier, head.scopes) == ("web", "acme", "", frozenset({"read"}))
    assert (head.request_id, head.correlation_id) == ("0" * 32, "0" * 32)
    assert list(head.fields) == [("X-A", "1"), ("x-a", "2"), ("Cookie", "a=b")]


def test_fields_are_found_in_any_case_and_show_no_values() -> None:
    fields = Fields(lines=b"X-A: 1\r\nx-a:  two \r\nSet-Cookie: a=b, c\r\n")
    assert (fields.get("X-a"), fields.get("none"), fields.get("none", "-")) == ("1, two", "", "-")
    assert (fields.all("x-A"), fields.all("none")) == (("1", "two"), ())
    assert ("SET-COOKIE" in fields, "none" in fields, 1 in fields, len(fields)) == (True, False, False, 3)
    assert "two" not in repr(fields)
    assert list(Fields({"A": "1"})) == list(Fields([("A", "1")])) == [("A", "1")]
    assert len(Fields()) == len(Fields(lines=b"")) == 0


def test_what_a_hook_is_shown_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        RequestHead().path = "/b"  # type: ignore[misc]  # that is what is tried
    assert ResponseHead().request == RequestHead()


# What it may want.


def test_changes_are_applied_in_order_and_seen_by_the_next() -> None:
    shown: list[RequestHead] = []
    first = returns(RequestChanges(set={"X-A": "1"}, remove=["Cookie"], path="/a/b", query="q"))
    gate = gate_of(first, shown.append, returns(RequestChanges(append={"X-A": "2"}, query="")), shown.append)
    one = ticket(request(b"/a/x?old", "x_a: 0", "Cookie: c"))
    assert gate.check(one) is PASS
    assert lines_of(one) == b"X-A: 1\r\nX-A: 2\r\n"
    assert one.hooked is not None
    assert one.hooked.path == b"/a/b"
    seen = [(head.path, head.query, head.fields.get("X-A")) for head in shown]
    assert seen == [("/a/b", "q", "1"), ("/a/b", "", "1, 2")]
    assert one.log_decisions == {"hooks": "h0 changed, h2 changed"}


def test_changes_of_nothing_change_nothing() -> None:
    one = ticket()
    assert gate_of(returns(RequestChanges())).check(one) is PASS
    assert one.hooked is not None
    assert not one.hooked.changed


def test_a_refusal_ends_it_and_is_the_same_object_again() -> None:
    asked: list[RequestHead] = []
    gate = gate_of(returns(Refusal(451, "no", "law", 5, {"Link": "</law>"})), asked.append)
    refused = gate.check(ticket())
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason, refused.detail, refused.retry_after) == (451, "hook_refused", "no", 5)
    assert (refused.extra, refused.members, asked) == (b"Link: </law>\r\n", {"code": "law"}, [])
    assert gate.check(ticket()) is refused


@pytest.mark.parametrize(
    "wanted",
    [
        Refusal(399),
        Refusal(600),
        Refusal(True),
        Refusal("403"),  # type: ignore[arg-type]  # what an author may do all the same
        Refusal(403, "x" * 1001),
        Refusal(403, None),  # type: ignore[arg-type]
        Refusal(403, code="a b"),
        Refusal(403, retry_after=0),
        Refusal(403, retry_after=1.5),  # type: ignore[arg-type]
        Refusal(403, fields={"Retry-After": "1"}),
        Refusal(403, fields={"Content-Length": "1"}),
        Refusal(403, fields=None),  # type: ignore[arg-type]
        Refusal,
        RequestChanges,
        ResponseChanges(),
        "text",
        b"",
        False,
        RequestChanges(set={"X-A": "a\r\nb"}),
        RequestChanges(set={"X-A": ""}),
        RequestChanges(set={"X-A": " a"}),
        RequestChanges(set={"X-A": "\u00e9"}),
        RequestChanges(set={"X-A": 1}),  # type: ignore[dict-item]
        RequestChanges(set={1: "a"}),  # type: ignore[dict-item]
        RequestChanges(set={"": "a"}),
        RequestChanges(set={"A: b\r\nC": "a"}),
        RequestChanges(set={"a" * 65: "a"}),
        RequestChanges(set=[("X-A", "a")]),  # type: ignore[arg-type]
        RequestChanges(set={f"X-{number}": "a" for number in range(65)}),
        RequestChanges(append={f"X-{number}": "a" * 8000 for number in range(5)}),
        RequestChanges(remove=[f"X-{number}" for number in range(65)]),
        RequestChanges(remove="X-A"),
        RequestChanges(remove=7),  # type: ignore[arg-type]
        RequestChanges(remove=["Host"]),
        RequestChanges(append={"X_Mail": "claimed"}),
        RequestChanges(append={"x-consumer": "me"}),
        RequestChanges(append={"Sec-WebSocket-Key": "a"}),
        RequestChanges(path=""),
        RequestChanges(path="a"),
        RequestChanges(path="/ab"),
        RequestChanges(path="/a?b"),
        RequestChanges(path="/a#b"),
        RequestChanges(path="/a/%2e%2e/b"),
        RequestChanges(path="/a\r\n"),
        RequestChanges(path=b"/a/b"),  # type: ignore[arg-type]
        RequestChanges(query="a#b"),
        RequestChanges(query="a\n"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_not_allowed_is_a_failure(wanted: object) -> None:
    refused = gate_of(returns(wanted)).check(one := ticket())
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason) == (500, "hook_failed")
    assert one.log_decisions == {"hooks": "h0 invalid"}
    assert gate_of(returns(wanted), on_failure="skip").check(one := ticket()) is PASS
    assert lines_of(one) == one.request.fields.lines


def test_what_is_to_be_awaited_is_a_failure_and_no_warning() -> None:
    async def later() -> None: ...

    assert isinstance(gate_of(lambda _head: later()).check(ticket()), Refused)


class Awkward(Mapping[str, str]):
    """A mapping that raises when it is read."""

    def __getitem__(self, name: str) -> str:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


def test_changes_that_raise_when_they_are_read_are_a_failure() -> None:
    assert isinstance(gate_of(returns(RequestChanges(set=Awkward()))).check(ticket()), Refused)


TEXT = st.text(st.characters(max_codepoint=0x17F), max_size=12)
PAIRS = st.dictionaries(TEXT, TEXT, max_size=3)


@given(PAIRS, PAIRS, st.lists(TEXT, max_size=3))
def test_whatever_a_hook_wants_the_lines_stay_lines(
    wanted: dict[str, str], added: dict[str, str], removed: list[str]
) -> None:
    lines = b"Accept: a\r\nX-A: b\r\n"
    for edits_of, changes in (
        (request_edits, RequestChanges(wanted, added, removed)),
        (response_edits, ResponseChanges(wanted, added, removed)),
    ):
        try:
            edits = edits_of(changes, RULES)
        except ChangeError:
            continue
        made = lines if edits is None else edits.applied(lines)
        assert made.endswith(b"\r\n") or not made
        for line in made.split(b"\r\n")[:-1]:
            name, colon, value = line.partition(b": ")
            assert name
            assert colon
            assert value
            assert all(0x20 <= octet < 0x7F or octet == 0x09 for octet in line)


@given(st.none() | TEXT, st.none() | TEXT)
def test_whatever_a_hook_wants_the_path_is_one_of_the_route(path: str | None, query: str | None) -> None:
    try:
        made = changed_path(RequestChanges(path=path, query=query), b"/a/x?y", RULES)
    except ChangeError:
        return
    if made is not None:
        assert made == b"/a" or made.startswith((b"/a/", b"/a?"))
        assert all(0x21 <= octet < 0x7F and octet != 0x23 for octet in made)


def test_a_detail_may_be_in_any_language() -> None:
    assert refusal_of(Refusal(403, "n\u00e9, \u4e0d\u884c")).detail == "n\u00e9, \u4e0d\u884c"
    assert refusal_of(Refusal(403, "\ud800")).detail == "?"
    assert refusal_of(Refusal(403)).detail == "a hook of the route has refused the request"


# What becomes of one that fails.


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError()]
)
def test_nothing_that_it_raises_goes_further(error: BaseException) -> None:
    def raises(_head: RequestHead) -> None:
        raise error

    refused = gate_of(raises).check(one := ticket())
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason, one.log_decisions) == (500, "hook_failed", {"hooks": "h0 raised"})
    assert gate_of(raises, on_failure="skip").check(ticket()) is PASS


def test_an_error_that_cannot_be_told_is_no_error_more() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def raises(_head: RequestHead) -> None:
        raise Mute

    assert isinstance(gate_of(raises).check(ticket()), Refused)


def test_it_is_switched_off_and_tried_again() -> None:
    now = 100.0
    outcome: list[object] = [ValueError("x")]
    called = 0

    def does(_head: RequestHead) -> object:
        nonlocal called
        called += 1
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    gate = gate_of(does, clock=lambda: now)

    def ask() -> object:
        one = ticket()
        one.now = now
        return gate.check(one)

    assert [ask() and called for _ in range(4)] == [1, 2, 3, 3]
    now = 120.5
    refused = ask()
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason, refused.retry_after, called) == (503, "hook_failed", 10, 3)
    now = 130.0
    assert isinstance(ask(), Refused)
    assert called == 4
    now, outcome[0] = 160.0, None
    assert [ask(), ask(), called] == [PASS, PASS, 6]
    point = gate.running[0].request
    assert point is not None
    assert point.counts == {"passed": 2, "changed": 0, "refused": 0, "raised": 4, "invalid": 0, "off": 2}


def test_one_that_is_switched_off_may_be_left_out() -> None:
    gate = gate_of(fails, returns(RequestChanges(set={"X-A": "1"})), on_failure="skip")
    for _ in range(5):
        one = ticket()
        one.now = gate.running[0].switch.off_until - 1.0 if gate.running[0].switch.off_until else 0.0
        assert gate.check(one) is PASS
    assert one.log_decisions == {"hooks": "h0 skipped, h1 changed"}


@pytest.mark.parametrize(("on_failure", "decision"), [("refuse", "refuse"), ("skip", "none")])
async def test_explain_says_which_is_switched_off_and_calls_none(on_failure: str, decision: str) -> None:
    asked: list[RequestHead] = []
    gate = gate_of(fails, asked.append, on_failure=on_failure)
    gate.running[0].switch.off_until = 20.0
    told = await gate.explain(Question("192.0.2.1", False, "GET", 15.0))
    assert (told["decision"], told["figures"]["h0: off for"], asked) == (decision, 5.0, [])
    assert (told["retry_after"] == 5.0) == (decision == "refuse")
    assert (await gate.explain(Question("192.0.2.1", False, "GET", 25.0)))["decision"] == "none"
    assert gate.describe() == {"hooks": "h0, h1", "on_failure": f"{on_failure}, {on_failure}"}


def test_the_log_has_a_line_now_and_then_and_each_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    gate = gate_of(fails, limits=HookLimits(failures=1_000_000, window=3600.0), clock=lambda: now)
    with caplog.at_level(logging.INFO, "gateway.hooks"):
        for _ in range(100):
            gate.check(ticket())
        now = 111.0
        gate.check(ticket())
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("hook h0 of route a has raised ValueError: a b (test_hooks_gate.py:")
    assert second.endswith("(99 more since the last line)")


def test_a_slow_call_is_told_and_counted_and_its_result_is_used(caplog: pytest.LogCaptureFixture) -> None:
    instants = iter([100.0, 100.3])
    limits = HookLimits(slow=0.05, failures=1)
    gate = gate_of(returns(RequestChanges(set={"X-A": "1"})), limits=limits, clock=lambda: next(instants))
    with caplog.at_level(logging.INFO, "gateway.hooks"):
        assert gate.check(one := ticket()) is PASS
    assert lines_of(one) == b"X-A: 1\r\n"
    slow, off = [record.getMessage() for record in caplog.records]
    assert slow == "hook h0 of route a took 0.300 s, in which this worker did nothing else"
    assert off.startswith("hook h0 of route a is switched off for 30 s: 1 of 1 calls were slow or failed")
    point = gate.running[0].request
    assert point is not None
    assert (point.slow, point.counts["changed"], point.duration.count) == (1, 1, 1)
