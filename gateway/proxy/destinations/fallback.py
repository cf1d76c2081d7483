"""The fallback of a route: whom to ask when its upstream does not answer, and what to say when nobody does.

    upstream of the route ──▶ upstreams, in order, each once ──▶ a last good answer ──▶ the fixed response ──▶ refusal

It is used on the conditions that the route names. A request goes on at most once to each upstream, so there is no loop.
Which requests may go on at all is decided by `Fallback.may_repeat`: one that an upstream may have acted on goes to
another upstream only if a repetition does no harm.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from gateway.config.sections.fallback.model import CONDITIONS, FallbackConfig, FixedResponse
from gateway.policy.retry import IDEMPOTENT_METHODS
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.stored_answer import is_undone
from gateway.proxy.destinations.last_good import Kept, LastAnswer, LastGood
from gateway.proxy.gate import Chain
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams.upstream import Upstream
from gateway.reasons import REASONS
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels

RESPONSE: Final = "response"
STALE: Final = "stale"
"""What the fixed response and a last good answer are called in logs and metrics. An upstream of this name shares their
figures."""

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
    what it is used on, in words. `last_good` has the answers of before, None where none are kept. `counts` are the
    requests that went on, by whom to and why (`cause_of`)."""

    __slots__ = (
        "_non_idempotent",
        "_on",
        "_responses",
        "_statuses",
        "_via_name",
        "after",
        "conditions",
        "counts",
        "hops",
        "last_good",
        "shared",
    )

    def __init__(self, config: FallbackConfig, hops: tuple[Hop, ...], shared: int, via_name: str) -> None:
        self.hops = hops
        self.shared = shared
        self.after = config.after
        self._on = frozenset([reason for word in config.on for reason in CONDITIONS[word]])
        self._statuses = config.statuses
        self._non_idempotent = config.non_idempotent
        self._via_name = via_name
        self.last_good = LastGood(config.stale_if_error, config.stale_max_bytes) if config.stale_if_error else None
        self._responses: dict[str, OwnAnswer] = {}
        if config.response is not None:
            self._responses = {
                cause: _own_answer(config.response, cause, via_name) for cause in (*CONDITIONS, "4xx", "5xx", "429")
            }
        causes = (*sorted(config.on), *sorted({cause_of_status(status) for status in config.statuses}))
        self.conditions = config.conditions
        to = [hop.upstream.name for hop in hops]
        if self.last_good is not None:
            to.append(STALE)
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

    def answer(self, ticket: Ticket, cause: str, status: int, now: float) -> tuple[str, OwnAnswer] | None:
        """What to say where no upstream is left, and what that is called: the last good answer, or the fixed response;
        None where there is neither. `status` is what the last upstream has answered, 0 without an answer."""
        if self.last_good is not None:
            kept = self.last_good.find(ticket, now)
            if kept is not None:
                return STALE, self._stale(kept, ticket, cause, status, now)
        response = self._responses.get(cause)
        if response is None:
            return None
        return RESPONSE, response if ticket.request.method != "HEAD" else response.to_head()

    def _stale(self, kept: Kept, ticket: Ticket, cause: str, status: int, now: float) -> OwnAnswer:
        """With what RFC 9211 says of it: whether the upstream was asked, and what it has answered."""
        via = self._via_name
        how = f"fwd=stale; fwd-status={status}" if status else "fwd=stale" if ticket.attempts else "hit"
        told = f'Cache-Status: {via}; {how}; detail="stale-if-error"\r\n'
        told += f'Proxy-Status: {via}; details="fallback: {cause}"\r\n'
        return LastAnswer(kept, kept.age + int(now - kept.at), told)

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
    keeping = [(name, each.last_good) for name, each in of_routes if each.last_good is not None]
    metrics.gauge(
        "fallback_stale_bytes",
        "What the last good answers of a route take in memory, with those that are on their way.",
        ("route",),
        lambda: (((name,), last_good.size + last_good.gathered) for name, last_good in keeping),
    )
    metrics.gauge(
        "fallback_stale_entries",
        "Last good answers that are kept.",
        ("route",),
        lambda: (((name,), last_good.entries) for name, last_good in keeping),
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
