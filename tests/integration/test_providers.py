"""examples/providers.yaml as a drill: the first provider of models fails in every way, and comes back."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from gateway.config import load
from gateway.config.documents.json_schema import document
from gateway.config.reading.yaml_tree import parse
from gateway.policy.retry import RetrySettings
from tests.conformance.wire.upstream import Answer, Peer, ProgrammedUpstream, Seen, ok
from tests.support import plain_http
from tests.support.gateway_process import GatewayProcess

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/providers.yaml"
KEYS = {"GATEWAY_CONFIG": str(EXAMPLE), "OPENAI_API_KEY": "key-of-openai", "ANTHROPIC_API_KEY": "key-of-anthropic"}
PATH = "/v1/chat/completions"
PROMPT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}]}).encode()
CLIENT = {"Content-Type": "application/json", "Authorization": "Bearer of-the-client", "Cookie": "session=1"}


class Drill(NamedTuple):
    gateway: GatewayProcess
    openai: ProgrammedUpstream
    anthropic: ProgrammedUpstream
    ollama: ProgrammedUpstream

    def providers_answer(self, *openai: Answer, anthropic: Answer | None = None) -> None:
        """Until the next call of this: OpenAI with these answers, the last one again and again."""
        for each in (self.openai, self.anthropic, self.ollama):
            each.seen.clear()
        self.openai.on(PATH, *openai)
        self.anthropic.on(PATH, anthropic or ok(b'{"from": "anthropic"}'))
        self.ollama.on(PATH, ok(b'{"from": "ollama"}'))

    def ask(self) -> plain_http.Answer:
        return self.gateway.request("POST", PATH, PROMPT, CLIENT)

    def who_answers(self) -> str:
        answer = self.ask()
        assert answer.status == 200
        return str(json.loads(answer.body)["from"])

    def log_of(self, answer: plain_http.Answer) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.gateway.wait_for_line(f'"{answer.headers["X-Request-ID"]}"'))
        return record

    def went_on(self, to: str, cause: str) -> float:
        return self.gateway.metric(f'fallback_requests_total{{route="completions",to="{to}",cause="{cause}"}}')


def reset(peer: Peer, seen: Seen) -> None:
    peer.read_body(seen)
    peer.reset()


def silence(peer: Peer, _seen: Seen) -> None:
    peer.wait_for_end()


FROM_OPENAI = ok(b'{"from": "openai"}')
BUSY = ok(b"{}", b"Retry-After: 20", status=429)
DOWN = ok(b"{}", status=503)


@pytest.fixture(scope="module")
def providers() -> Iterator[dict[str, ProgrammedUpstream]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(ProgrammedUpstream()) for name in ("openai", "anthropic", "ollama")}


@contextmanager
def drilled(providers: dict[str, ProgrammedUpstream], directory: Path, **changes: str) -> Iterator[Drill]:
    env = KEYS | {f"{name.upper()}_URL": each.url for name, each in providers.items()}
    env |= {"RATE_LIMIT_ENABLED": "false", "PROVIDER_RETRY_DELAY": "10ms", **changes}
    with GatewayProcess(env, directory) as gateway:
        yield Drill(gateway, **providers)


@pytest.fixture(scope="module")
def drill(providers: dict[str, ProgrammedUpstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """The circuits never open, so that each failure is seen by itself."""
    patient = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "10000", "CIRCUIT_BREAKER_WINDOW_SIZE": "10000"}
    patient |= {"CIRCUIT_BREAKER_MINIMUM_CALLS": "10000", "PROVIDER_TIMEOUT": "1s", "FIRST_PROVIDER_HAS": "2500ms"}
    with drilled(providers, tmp_path_factory.mktemp("gateway"), **patient) as made:
        yield made


def test_the_example_is_what_an_editor_is_told() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    jsonschema.Draft202012Validator(document()).validate(parse(text, "providers.yaml").root)


def test_the_retries_are_those_of_the_resilience_runbook() -> None:
    """4 retries, 2 s, exponential with jitter; 4; 3, 100 ms, constant."""
    made = load(KEYS, None).upstreams
    statuses = frozenset({429, 500, 502, 503, 504})
    exponential = RetrySettings(5, 2.0, 16.0, "exponential_jitter", statuses, non_idempotent=True)
    assert (made["openai"].retry, made["anthropic"].retry) == (exponential, exponential)
    constant = RetrySettings(4, 0.1, 2.0, "constant", frozenset({502, 503, 504}), non_idempotent=True)
    assert made["ollama"].retry == constant


def test_each_provider_gets_its_own_key_and_nothing_of_the_clients(drill: Drill) -> None:
    drill.providers_answer(DOWN, anthropic=DOWN)
    assert drill.who_answers() == "ollama"
    seen = [each.requests(PATH)[0] for each in (drill.openai, drill.anthropic, drill.ollama)]
    assert [each.get("Authorization") for each in seen] == ["Bearer key-of-openai", "Bearer key-of-anthropic", None]
    assert [each.get("Cookie") for each in seen] == [None] * 3
    assert [each.body for each in seen] == [PROMPT] * 3


def test_the_first_provider_answers(drill: Drill) -> None:
    drill.providers_answer(FROM_OPENAI)
    assert drill.who_answers() == "openai"
    assert not drill.anthropic.seen


def test_the_first_provider_fails_once(drill: Drill) -> None:
    drill.providers_answer(DOWN, FROM_OPENAI)
    assert drill.who_answers() == "openai"


@pytest.mark.parametrize(
    ("failure", "cause", "attempts"),
    [(DOWN, "5xx", 5), (reset, "unreachable", 5), (silence, "timeout", 1), (BUSY, "429", 1)],
    ids=["503", "reset", "silence", "429"],
)
def test_the_second_provider_answers_within_the_time_limit(
    failure: Answer, cause: str, attempts: int, drill: Drill
) -> None:
    drill.providers_answer(failure)
    before = drill.went_on("anthropic", cause)
    answer = drill.ask()
    assert json.loads(answer.body) == {"from": "anthropic"}
    assert answer.headers["Proxy-Status"] == (
        f'gateway; next-hop="anthropic"; received-status=200; details="fallback: {cause}"'
    )
    assert len(drill.openai.requests(PATH)) >= attempts
    assert drill.went_on("anthropic", cause) == before + 1
    record = drill.log_of(answer)
    assert record["decisions"]["fallback"] == f"anthropic: {cause}"
    assert record["endpoint"] == f"127.0.0.1:{drill.anthropic.port}"
    # The time limit of the first provider and what the second has taken, with room for a slow machine.
    assert record["duration_ms"] < 90_000


def test_a_provider_that_asks_for_time_is_asked_once(drill: Drill) -> None:
    drill.providers_answer(BUSY, anthropic=BUSY)
    answer = drill.ask()
    assert json.loads(answer.body) == {"from": "ollama"}
    assert [len(each.requests(PATH)) for each in (drill.openai, drill.anthropic, drill.ollama)] == [1, 1, 1]
    assert drill.log_of(answer)["decisions"]["fallback"] == "anthropic: 429, ollama: 429"


def test_nobody_answers(drill: Drill) -> None:
    drill.providers_answer(BUSY, anthropic=BUSY)
    drill.ollama.on(PATH, DOWN)
    answer = drill.ask()
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/json")
    assert json.loads(answer.body)["error"]["type"] == "server_error"
    assert 'details="fallback: 5xx"' in (answer.headers["Proxy-Status"] or "")


def test_the_circuit_of_the_first_opens_is_probed_and_closes(
    providers: dict[str, ProgrammedUpstream], tmp_path: Path
) -> None:
    quick = {"CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "1", "CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD": "1"}
    with drilled(providers, tmp_path, **quick) as drill:
        drill.providers_answer(DOWN)

        def opened() -> bool:
            return drill.who_answers() == "anthropic" and drill.went_on("anthropic", "circuit_open") > 0

        drill.gateway.wait_until(opened, "opening the circuit")
        state = 'circuit_breaker_state{upstream="openai"}'
        assert drill.gateway.metric(state) in {2, 3}
        asked = len(drill.openai.requests(PATH))

        def probed() -> bool:
            """A client's request is the probe. It fails, and its client gets the answer of the second."""
            return drill.who_answers() == "anthropic" and len(drill.openai.requests(PATH)) > asked

        drill.gateway.wait_until(probed, "probing the first provider")
        drill.openai.on(PATH, FROM_OPENAI)
        drill.gateway.wait_until(lambda: drill.who_answers() == "openai", "back at the first provider")
        drill.gateway.wait_for_metric(state, 1)
        assert drill.who_answers() == "openai"
