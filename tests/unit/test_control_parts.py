"""The small parts of the control plane: names, histories, shares of the loop's time, the choice of a format."""

import json
from email.utils import parsedate_to_datetime

import pytest
from pydantic import ValidationError

from gateway.control.api.explain import Asked
from gateway.control.api.metrics import prefers_text
from gateway.control.api.operation import allowed
from gateway.control.api.outbox import WhichMessages
from gateway.control.api.sagas import WhichRuns
from gateway.control.history import KEPT, CircuitHistory
from gateway.control.models.outbox import ReplayRange
from gateway.control.models.sagas import SagaOutcome, SagaReason
from gateway.control.models.shapes import Input
from gateway.control.paths import is_control_path, is_health_path
from gateway.control.services import Services
from gateway.control.serving.allowance import Allowance
from gateway.control.serving.problem import RefusalError, rendered


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_services_by_name_in_any_case() -> None:
    services = Services(["OpenAI", "payments", "Payments"])
    assert [services.named(name) for name in ("openai", "OPENAI", "payments", "Payments", "PAYMENTS")] == [
        "OpenAI", "OpenAI", "payments", "Payments", "payments",
    ]  # fmt: skip


def test_an_unknown_service_is_a_404_that_lists_the_known() -> None:
    with pytest.raises(RefusalError) as caught:
        Services(["a", "b"]).named("c")
    assert (caught.value.status, caught.value.members) == (404, {"known": ["a", "b"]})
    assert "a, b" in caught.value.detail


def test_a_history_keeps_the_latest_transitions() -> None:
    clock = Clock()
    history = CircuitHistory(["a", "b"], clock)
    assert history.last("a") is None
    for index in range(KEPT + 5):
        clock.now = float(index)
        history.record("a", "closed", "open", f"cause {index}")
    kept = history.of("a")
    assert [each.cause for each in kept] == [f"cause {index}" for index in range(KEPT + 4, 4, -1)]
    assert history.last("a") == kept[0]
    assert kept[0].at == KEPT + 4
    assert history.of("b") == []


def test_an_allowance_is_a_share_of_the_time() -> None:
    clock = Clock()
    allowance = Allowance(share=0.05, burst=0.1, clock=clock)
    done = 0
    for _ in range(10_000):
        clock.now += 0.001
        if allowance.open:
            allowance.spend(0.005)
            done += 1
    # 10 s at 5 %, the burst, and the one that overdraws.
    assert 100 <= done <= (0.05 * 10 + 0.1) / 0.005 + 1


def test_a_slow_poll_is_always_allowed() -> None:
    clock = Clock()
    allowance = Allowance(share=0.05, burst=0.1, clock=clock)
    for _ in range(100):
        clock.now += 1.0
        assert allowance.open
        allowance.spend(0.04)


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("text/plain", True),
        ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2", True),
        ("application/json, text/plain", False),
        ("application/json;q=0.5, text/plain", True),
        ("text/plain;q=0", False),
        ("text/plain;q=x", False),
    ],
)
def test_who_asks_for_the_text_of_prometheus(accept: str, text: bool) -> None:
    assert prefers_text(accept) is text


def test_only_health_stays_when_the_control_plane_moves() -> None:
    paths = [b"/health", b"/livez", b"/readyz", b"/metrics", b"/api/docs", b"/api/openapi.json", b"/status/breakers"]
    assert [is_health_path(path) for path in paths] == [True] * 3 + [False] * 4
    assert all(map(is_control_path, paths))


def test_what_a_parameter_allows_is_what_it_takes() -> None:
    properties = Asked.model_json_schema()["properties"]
    assert allowed(properties["path"]) == "text of 1 to 2048 characters: a path in visible ASCII that begins with '/'"
    assert allowed(properties["method"]) == "text of 1 to 32 characters: a method"
    for name in ("path", "method"):
        with pytest.raises(ValidationError):
            Asked.model_validate({name: ""})


def test_a_refusal_without_the_framework_has_the_fields_of_every_other_answer() -> None:
    refused = RefusalError(429, "Too many.", reason="control_plane_busy", retry_after=0.2)
    head, _, body = rendered(refused, "r1").decode().partition("\r\n\r\n")
    line, *lines = head.split("\r\n")
    fields = dict(each.split(": ", 1) for each in lines)
    assert line == "HTTP/1.1 429 Too Many Requests"
    assert parsedate_to_datetime(fields.pop("Date"))
    assert fields == {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Retry-After": "1",
        "Connection": "close",
        "Server": "gateway",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Request-ID": "r1",
    }
    assert json.loads(body)["reason"] == "control_plane_busy"


@pytest.mark.parametrize(
    ("asked", "members"),
    [
        (WhichRuns, {"workflow": "check\0out"}),
        (WhichMessages, {"target": "\0"}),
        (ReplayRange, {"since": 0.0, "until": 1.0, "target": "\0"}),
        (SagaReason, {"reason": "by hand\0"}),
        (SagaReason, {"reason": "by hand\nsomething else"}),
        (SagaOutcome, {"outcome": "succeeded", "reason": "\x1b"}),
    ],
)
def test_text_for_the_journal_has_no_control_characters(asked: type[Input], members: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        asked.model_validate(members)
