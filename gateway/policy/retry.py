"""The retry decision: the only predicate in the program that says whether an attempt is followed by another.

In this order, the first that applies:

1. a half-open probe is never retried;
2. only a status in `statuses` or a failure is worth another attempt;
3. the body must still be available in full;
4. it must be safe: the method is idempotent, or no byte of the request was sent. A connection that closes under a POST
   whose bytes were written may have been closed after the upstream acted on it, pooled or not, so it is not repeated
   (RFC 9110 section 9.2.2). Nonsense instead of a response head is repeated for idempotent requests only;
5. an attempt that failed on a stale pooled connection is repeated at once and for free, once: it is not counted as an
   attempt and costs no budget. It says nothing about the upstream, only that its keep-alive timer is shorter than ours;
6. at most `max_attempts`;
7. the delay must end before the deadline:

       delay = retry_after + uniform[0, min(max_delay, base_delay * 2 ** (attempt - 1)))     exponential_jitter
       delay = retry_after + base_delay                                                      constant

   This is the "full jitter" of the AWS Architecture Blog (Exponential Backoff and Jitter, 2015). The backoff is added
   to an upstream's Retry-After, because clients that were told the same second would come back in the same instant;
8. the budget is asked last, so that a retry that would not happen anyway spends nothing.

Left out on purpose: choosing the endpoint, sleeping, and hedging.
"""

import random
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

from gateway.policy.budget import RetryBudget


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """`max_attempts` counts the first one. Delays in seconds. With `non_idempotent` every request may be sent again,
    whatever its method: a second execution does no harm there."""

    max_attempts: int = 3
    base_delay: float = 0.1
    max_delay: float = 2.0
    strategy: Literal["exponential_jitter", "constant"] = "exponential_jitter"
    statuses: frozenset[int] = frozenset({502, 503, 504})
    non_idempotent: bool = False


Failure = Literal["connect", "reset", "timeout", "protocol"]
GiveUpReason = Literal[
    "probe", "not_retryable", "not_replayable", "not_idempotent", "attempts", "retry_after", "deadline", "budget"
]

IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class EndedAttempt(NamedTuple):
    """What is known when an attempt has ended without anything sent on to the client.

    attempt               the one that just ended, from 1; free retries are not counted
    idempotent            method in IDEMPOTENT_METHODS, or the request has an Idempotency-Key that the upstream honours,
                          or the settings say `non_idempotent`
    replayable            the request has no body, or it is held in full, or none of it was taken from the client yet
    request_sent          a byte of the request was written to a connection, in this attempt
    remaining             seconds left of the total deadline
    status                the upstream's answer, whose head has arrived
    failure               why there is none: "connect" (refused, unreachable, DNS, TLS, connect timeout), "reset"
                          before the head, attempt "timeout", "protocol" (no valid head)
    stale                 a reused pooled connection was closed before any byte of a response
    free_retry_used       an earlier attempt of this exchange was already repeated for free
    upstream_retry_after  see `parse_retry_after`
    probe                 the attempt was a half-open circuit's probe
    """

    attempt: int
    idempotent: bool
    replayable: bool
    request_sent: bool
    remaining: float
    status: int | None = None
    failure: Failure | None = None
    stale: bool = False
    free_retry_used: bool = False
    upstream_retry_after: float | None = None
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds. `free`: count it neither as an attempt nor as a retry, and remember it."""

    delay: float
    free: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """What has happened goes to the client."""

    reason: GiveUpReason


def next_delay(
    settings: RetrySettings, facts: EndedAttempt, budget: RetryBudget, rng: random.Random, now: float
) -> Retry | GiveUp:
    """Decide, by the rules above. `now` is an instant of the budget's clock; budget is spent if and only if the
    answer is a Retry that is not free."""
    if facts.probe:
        return GiveUp("probe")
    if facts.failure is None and facts.status not in settings.statuses:
        return GiveUp("not_retryable")
    if not facts.replayable:
        return GiveUp("not_replayable")
    if not facts.idempotent and (facts.request_sent or facts.failure == "protocol"):
        return GiveUp("not_idempotent")
    if facts.stale and not facts.free_retry_used and facts.remaining > 0.0:
        return Retry(0.0, free=True)
    if facts.attempt >= settings.max_attempts:
        return GiveUp("attempts")
    floor = facts.upstream_retry_after or 0.0
    if floor >= facts.remaining > 0.0:
        return GiveUp("retry_after")
    delay = floor + _backoff(settings, facts.attempt, rng)
    if delay >= facts.remaining:
        return GiveUp("deadline")
    if not budget.try_spend(now):
        return GiveUp("budget")
    return Retry(delay)


def _backoff(settings: RetrySettings, attempt: int, rng: random.Random) -> float:
    if settings.strategy == "constant":
        return settings.base_delay
    doublings = min(attempt - 1, 64)  # beyond that any cap is reached, and floats overflow at 1024
    return rng.random() * min(settings.max_delay, settings.base_delay * 2.0**doublings)


def parse_retry_after(value: bytes, wall_clock: float) -> float | None:
    """Seconds to wait according to a Retry-After field value (RFC 9110 section 10.2.3), 0 for a date that has passed;
    None when it is neither a number of seconds nor a date. `wall_clock` is seconds since the Unix epoch."""
    value = value.strip(b" \t")
    if value.isdigit():
        return float(value)  # not int: thousands of digits are infinity, not an error
    try:
        date = parsedate_to_datetime(value.decode("ascii"))
        return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - wall_clock)
    except (ValueError, OverflowError):
        return None
