"""Workflows: what a run does, step by step. Immutable, and written to the journal with each run, so that a run goes on
as it has begun when the configuration changes meanwhile."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

# Those after which nothing has to be undone (RFC 9110 section 9.2.1).
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Twice is as good as once (section 9.2.2).
_IDEMPOTENT: Final = SAFE | {"PUT", "DELETE"}

Ranges = tuple[tuple[int, int], ...]
"""Statuses, each range with its first and last."""
SUCCESS: Final[Ranges] = ((200, 299),)
FAILED: Final[Ranges] = ((400, 407), (410, 424), (426, 428), (430, 499))


@dataclass(frozen=True, slots=True)
class SagaRequest:
    """One request of a step. `path`, `headers` and `body` are templates; `body` None: there is none. `success` are the
    answers by which it is done, `failed` those by which it is certain that it was not; any other says neither.
    `timeout` in seconds bounds one attempt. `honours_key` says that the upstream acts once on requests with the same
    `Idempotency-Key`."""

    upstream: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = None
    success: Ranges = SUCCESS
    failed: Ranges = FAILED
    timeout: float = 15.0
    honours_key: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again when it is not known what became of it."""
        return self.honours_key or self.method in _IDEMPOTENT


@dataclass(frozen=True, slots=True)
class SagaStep:
    """One step. `undo` None: nothing compensates it. An attempt that has failed is made again, up to `max_attempts` in
    all, after `base_delay` seconds and twice as long each time, up to `max_delay`. Behind the `pivot` there is no way
    back: whatever comes then is tried until it works."""

    name: str
    request: SagaRequest
    undo: SagaRequest | None = None
    pivot: bool = False
    max_attempts: int = 4
    base_delay: float = 0.2
    max_delay: float = 30.0

    def pause(self, attempts: int, spread: float) -> float:
        """Seconds before the next attempt, when so many were made. `spread` is random, from 0 to 1; the pause is longer
        by up to a fifth of itself."""
        return min(self.max_delay, self.base_delay * 2.0 ** min(attempts - 1, 30)) * (1.0 + spread / 5)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow. What has not come to its end, or to its pivot, within `deadline` seconds is compensated; each
    compensation, and all from the pivot on, has `completion_deadline` seconds. `answer` is a template of what a client
    is told of a run that has succeeded, None for nothing. An input has at most `max_input_bytes`, and of an answer no
    more than `max_result_bytes` is kept."""

    name: str
    steps: tuple[SagaStep, ...]
    deadline: float = 3600.0
    completion_deadline: float = 86_400.0
    answer: Any = None
    max_input_bytes: int = 65_536
    max_result_bytes: int = 65_536

    @property
    def pivot(self) -> int:
        """The position of the pivot; the number of steps where there is none."""
        return next((position for position, step in enumerate(self.steps) if step.pivot), len(self.steps))

    @property
    def upstreams(self) -> frozenset[str]:
        """The names of all upstreams that it uses."""
        requests = [each for step in self.steps for each in (step.request, step.undo) if each is not None]
        return frozenset(each.upstream for each in requests)


def encoded(workflow: Workflow) -> bytes:
    """As it stands in the journal."""
    return orjson.dumps(workflow)


def decoded(text: bytes) -> Workflow:
    """The workflow that `encoded` has made these bytes of. They may come from an older version of the gateway, which
    knew fewer settings. Raises ValueError for anything else."""
    try:
        members = orjson.loads(text)
        members["steps"] = tuple(map(_step, members["steps"]))
        return Workflow(**members)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no workflow: {error}") from error


def within(status: int, ranges: Ranges) -> bool:
    """Whether a status is among them."""
    return any(first <= status <= last for first, last in ranges)


def _step(members: dict[str, Any]) -> SagaStep:
    undo = members.get("undo")
    shaped = {"request": _request(members["request"]), "undo": None if undo is None else _request(undo)}
    return SagaStep(**{**members, **shaped})


def _request(members: dict[str, Any]) -> SagaRequest:
    tuples = {key: tuple(map(tuple, members[key])) for key in ("headers", "success", "failed")}
    return SagaRequest(**{**members, **tuples})
