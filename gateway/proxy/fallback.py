"""The fallback of a route: whom to ask when its upstream does not answer, and what to say when nobody does.

    upstream of the route ──▶ upstreams, in order, each once ──▶ the fixed response ──▶ the last refusal

It is used on the conditions that the route names. A request goes on at most once to each upstream, so there is no loop.
Which requests may go on at all is decided by `Fallback.may_repeat`: one that an upstream may have acted on goes to
another upstream only if a repetition does no harm.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.config.fallback_model import CONDITIONS, FallbackConfig, FixedResponse
from gateway.policy.retry import IDEMPOTENT_METHODS
from gateway.proxy.gates import Chain
from gateway.proxy.own_answer import OwnAnswer
from gateway.proxy.stored_answer import is_undone
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams import Upstream
from gateway.reasons import REASONS
from gateway.telemetry.cells import Labels
from gateway.telemetry.metrics import Metrics

RESPONSE: Final = "response"
"""What the fixed response is called in logs and metrics. An upstream of this name shares its figures."""

_CAUSES: Final = {reason: word for word, reasons in CONDITIONS.items() for reason in reasons}
_BODYLESS: Final = (204, 205, 304)


class Hop:
    """An upstream that a request may go on to. `chain` has the gates of the route in front of its upstream's, and then
    those of this one."""

    __slots__ = ("chain", "upstream")

    def __init__(self, upstream: Upstream, chain: Chain) -> None:
        self.upstream = upstream
        self.chain = chain

    def __repr__(self) -> str:
        return f"<Hop {self.upstream.name}>"


class Fallback:
    """Of one route. The first `shared` gates of its chain and of those of all `hops` are the same. `conditions` are
    what it is used on, in words. `counts` are the requests that went on, by whom to and why (`cause_of`)."""

    __slots__ = (
        "_non_idempotent",
        "_on",
        "_responses",
        "_statuses",
        "after",
        "conditions",
        "counts",
        "hops",
        "shared",
    )

    def __init__(self, config: FallbackConfig, hops: tuple[Hop, ...], shared: int, via_name: str) -> None:
        self.hops = hops
        self.shared = shared
        self.after = config.after
        self._on = frozenset([reason for word in config.on for reason in CONDITIONS[word]])
        self._statuses = config.statuses
        self._non_idempotent = config.non_idempotent
        self._responses: dict[str, OwnAnswer] = {}
        if config.response is not None:
            self._responses = {
                cause: _own_answer(config.response, cause, via_name) for cause in (*CONDITIONS, "4xx", "5xx", "429")
            }
        causes = (*sorted(config.on), *sorted({cause_of_status(status) for status in config.statuses}))
        self.conditions = config.conditions
        to = [hop.upstream.name for hop in hops]
        if config.response is not None:
            to.append(RESPONSE)
        self.counts: dict[tuple[str, str], int] = {(name, cause): 0 for name in to for cause in causes}

    def takes(self, reason: str) -> bool:
        """Whether the fallback is used in place of a refusal with this reason. HOT."""
        return reason in self._on

    def passes_over(self, status: int) -> bool:
        """Whether the fallback is used in place of an answer with this status."""
        return status in self._statuses

    def may_repeat(self, ticket: Ticket, hop: Hop, status: int, *, keyed: bool) -> bool:
        """Whether the request may go to another upstream. `status` is the answer to it, 0 without one. `keyed` says
        that it has an `Idempotency-Key` which the upstreams before have honoured."""
        if not ticket.sent or ticket.request.method in IDEMPOTENT_METHODS or self._non_idempotent:
            return True
        # An upstream that says so has done nothing; and one that knows the key does nothing a second time.
        return is_undone(status) or (keyed and hop.upstream.config.honours_idempotency_key)

    def response(self, cause: str, method: str) -> OwnAnswer | None:
        """The fixed response, None where there is none."""
        response = self._responses.get(cause)
        return response if response is None or method != "HEAD" else response.to_head()

    @property
    def has_response(self) -> bool:
        """Whether there is a fixed response."""
        return bool(self._responses)

    def used(self, to: str, cause: str) -> None:
        """Count a request that goes on."""
        self.counts[to, cause] = self.counts.get((to, cause), 0) + 1


def register(metrics: Metrics, fallbacks: Iterable[tuple[str, Fallback]]) -> None:
    """Add the metric of these fallbacks, which are given by the name of their route."""
    of_routes = tuple(fallbacks)

    def used() -> Iterator[tuple[Labels, float]]:
        for name, each in of_routes:
            for (to, cause), count in each.counts.items():
                yield (name, to, cause), count

    metrics.counter(
        "fallback_requests_total",
        "Requests that went on to a fallback, by what they went on to and why.",
        ("route", "to", "cause"),
        used,
    )


def cause_of(reason: str) -> str:
    """The word of the configuration for the reason of a refusal."""
    return _CAUSES[reason]


def cause_of_status(status: int) -> str:
    """The word for an answer that is passed over: 429 by itself, because it is about the client's demand, others by
    their class."""
    return "429" if status == 429 else "5xx" if status >= 500 else "4xx"


def _own_answer(response: FixedResponse, cause: str, via_name: str) -> OwnAnswer:
    reason = next(iter(sorted(CONDITIONS.get(cause, ()))), "")
    error = f"; error={REASONS[reason].error}" if reason else ""
    fields = f'Proxy-Status: {via_name}{error}; details="fallback: {cause}"\r\n'
    body = None if response.status in _BODYLESS else response.body.encode()
    if body is not None:
        fields = f"Content-Type: {response.content_type}\r\n{fields}"
    return OwnAnswer(response.status, fields.encode(), ("response", "fallback"), body)
