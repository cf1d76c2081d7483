"""Relations between settings, which no single one can tell.

For a pair (lower, upper) the invariant is lower ≤ upper. The one of the two that is a default gives way to the other:
`CIRCUIT_BREAKER_WINDOW_SIZE=10` alone lowers the minimum of calls from its default of 20 to 10, `UPSTREAM_TIMEOUT=60`
alone raises the total from its default of 30 to 60. Where both were set and contradict each other, that is a problem.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel

from gateway.config.building.place import Place, Steps
from gateway.config.problems import number

Model = TypeVar("Model", bound=BaseModel)


def settled(model: Model, pairs: Iterable[tuple[Steps, Steps]], place: Place) -> Model:
    """`model` with every pair in order: defaults give way, anything else is reported."""
    for lower, upper in pairs:
        low, high = _get(model, lower), _get(model, upper)
        if low <= high:
            continue
        if not place.given(lower):
            model = _replaced(model, lower, high)
            place.gave_way(lower, high, upper)
        elif not place.given(upper) and not place.refused(upper):
            model = _replaced(model, upper, low)
            place.gave_way(upper, low, lower)
        elif place.name(upper) not in place.broken:
            place.report(lower, low, f"at most {place.name(upper)}, which is {number(high)}{place.unit(upper)}")
    return model


def check_queue(section: Any, path: Steps, place: Place) -> None:
    """Report a queue in which nothing may wait, because its time limit is 0."""
    if section.max_queue > 0 and section.queue_timeout == 0:
        waiting = place.name((*path, "max_queue"))
        culprit = (*path, "queue_timeout")
        if place.given(culprit) or not place.given((*path, "max_queue")):
            place.report(culprit, section.queue_timeout, f"more than 0 while {waiting} is {section.max_queue}")
        else:
            place.report(
                (*path, "max_queue"), section.max_queue, f"0, or set {place.name(culprit)} to more than 0 as well"
            )


def _get(model: BaseModel, path: Steps) -> Any:
    value: Any = model
    for step in path:
        value = getattr(value, step)
    return value


def _replaced(model: Model, path: Steps, value: object) -> Model:
    first, *rest = path
    inner = _replaced(getattr(model, first), tuple(rest), value) if rest else value
    return model.model_copy(update={first: inner})
