"""What no single setting can tell: relations between settings, and files that must be there.

For a pair (lower, upper) the invariant is lower ≤ upper. The one of the two that is a default gives way to the other:
`CIRCUIT_BREAKER_WINDOW_SIZE=10` alone lowers the minimum of calls from its default of 20 to 10, `UPSTREAM_TIMEOUT=60`
alone raises the total from its default of 30 to 60. Where both were set and contradict each other, that is a problem.
"""

import math
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from gateway.config.problems import Problem, number, shown
from gateway.config.schema import unit
from gateway.config.settings import RateLimit
from gateway.config.variables import NAMES, VARIABLES, Variables
from gateway.config.yaml_tree import Location, Tree, dotted

Steps = tuple[str, ...]
Model = TypeVar("Model", bound=BaseModel)
Bucket = TypeVar("Bucket", bound=RateLimit)

UPSTREAM_PAIRS: tuple[tuple[Steps, Steps], ...] = (
    (("timeouts", "attempt"), ("timeouts", "total")),
    (("retry", "base_delay"), ("retry", "max_delay")),
    (("bulkhead", "adaptive", "min"), ("bulkhead", "adaptive", "initial")),
    (("breaker", "minimum_calls"), ("breaker", "window_size")),
    (("ejection", "base_time"), ("ejection", "max_time")),
    (("health_check", "timeout"), ("health_check", "interval")),
)
SETTINGS_PAIRS: tuple[tuple[Steps, Steps], ...] = (
    (("routes", "max_tunnels"), ("server", "max_connections")),
    (("errors", "high_error_rate"), ("errors", "critical_error_rate")),
    (("tracing", "batch"), ("tracing", "queue")),
    *((("upstream", *lower), ("upstream", *upper)) for lower, upper in UPSTREAM_PAIRS),
)

_UNITS = {each.path: unit(each.field.annotation, each.field.metadata) for each in VARIABLES.values()}


@dataclass(frozen=True, slots=True)
class Place:
    """Says where a value came from, and reports on it by the name it was given there.

    `settings` leads to a section of the settings, `location` to its counterpart in the file, if there is one; paths
    are relative to both.
    """

    variables: Variables
    problems: list[Problem]
    settings: Steps = ()
    tree: Tree | None = None
    location: Location = ()
    broken: frozenset[str] = field(default_factory=frozenset)
    """Variables whose value was refused already; nothing more is said about them."""
    given_way: dict[str, tuple[object, str]] = field(default_factory=dict)
    """Defaults that gave way, by what the setting is called: their new value, and to what."""

    def _in_file(self, path: Steps) -> bool:
        return self.tree is not None and self.tree.holds((*self.location, *path))

    def variable(self, path: Steps) -> str:
        """The name of the environment variable of a setting."""
        return NAMES[(*self.settings, *path)]

    def name(self, path: Steps) -> str:
        """What the user calls the setting: its path in the file where it is set there, else its variable."""
        return dotted((*self.location, *path)) if self._in_file(path) else self.variable(path)

    def given(self, path: Steps) -> bool:
        """Whether the setting was set at all, in the file or by a variable."""
        return self._in_file(path) or self.variable(path) in self.variables.given

    def source(self, path: Steps) -> str:
        """Where the setting was set, as a message begins: `file:line path` or `environment NAME`."""
        if self.tree is not None and self._in_file(path):
            return self.tree.source((*self.location, *path))
        return self.variables.source(self.variable(path))

    def report(self, path: Steps, value: object, allowed: str, suggestion: str | None = None) -> None:
        """Add a problem: this value of the setting is refused, and `allowed` says in words what is not. Nothing is
        added for a variable whose value was refused before."""
        if self.refused(path):
            return
        in_file = self._in_file(path)
        given = None if in_file else self.variables.given.get(self.variable(path))
        secret = not in_file and VARIABLES[self.variable(path)].env.secret
        text = shown(given.written if given else value, secret=secret)
        self.problems.append(Problem(self.source(path), text, allowed, suggestion))

    def gave_way(self, path: Steps, value: object, other: Steps) -> None:
        """Note that the default of a setting became `value` because of the setting `other`."""
        name = self.variable(path) if self.tree is None else dotted((*self.location, *path))
        self.given_way[name] = (value, self.name(other))

    def refused(self, path: Steps) -> bool:
        """Whether the setting comes from a variable whose value was refused already."""
        return not self._in_file(path) and self.variable(path) in self.broken

    def unit(self, path: Steps) -> str:
        """The unit of a setting with a space before it, or nothing, to be put behind a number."""
        named = _UNITS[(*self.settings, *path)]
        return f" {named}" if named else ""


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


def queue(section: Any, path: Steps, place: Place) -> None:
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


def bucket_lifetime(section: Bucket, place: Place) -> Bucket:
    """A bucket that is forgotten before it is full would come back full: more than the limit allows. The default
    lifetime gives way, as far as its own range goes."""
    refill = section.capacity / section.refill_rate
    if refill <= section.ttl:
        return section
    capacity, refill_rate, ttl = ("capacity",), ("refill_rate",), ("ttl",)
    full = f"{place.name(capacity)} / {place.name(refill_rate)}, which is {refill:g} seconds"
    _, longest = VARIABLES[place.variable(ttl)].bounds or (0, 0)
    if place.given(ttl):
        place.report(ttl, section.ttl, f"at least {full}")
    elif refill <= longest and not place.refused(ttl):
        longer = float(math.ceil(refill))
        place.gave_way(ttl, longer, capacity)
        return section.model_copy(update={"ttl": longer})
    else:
        culprit = capacity if place.given(capacity) else refill_rate
        value = section.capacity if place.given(capacity) else section.refill_rate
        place.report(culprit, value, f"such that {full}, is at most {number(longest)}, the most that a bucket is kept")
    return section


def certificate(cert: tuple[str | None, Steps], key: tuple[str | None, Steps], place: Place) -> None:
    """A certificate chain and its private key: both or none, and they load."""
    (cert_file, cert_path), (key_file, key_path) = cert, key
    if cert_file is None and key_file is None:
        return
    if cert_file is None or key_file is None:
        there, missing = (cert_path, key_path) if key_file is None else (key_path, cert_path)
        place.report(there, cert_file or key_file, f"only together with {place.name(missing)}")
        return
    if not (_readable(cert_file, cert_path, place) and _readable(key_file, key_path, place)):
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert_file, key_file, password=lambda: b"")
    except (OSError, ValueError):
        place.report(
            cert_path, cert_file, f"a PEM certificate that goes with the unencrypted PEM key in {place.name(key_path)}"
        )


def authorities(file: str | None, path: Steps, place: Place) -> None:
    """A bundle of CA certificates: it loads and is not empty."""
    if file is None or not _readable(file, path, place):
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ValueError):
        place.report(path, file, "a file of CA certificates in PEM form")


def directory(name: str | None, path: Steps, place: Place) -> None:
    """A directory that files can be created in, or that can be created itself."""
    if name is not None and not can_be_written(name):
        place.report(path, name, "the path of a directory that can be written, or created")


def can_be_written(directory_name: str) -> bool:
    """Whether files can be created in a directory, after it was created itself where it is not there."""
    try:
        there = next(each for each in (Path(directory_name), *Path(directory_name).absolute().parents) if each.exists())
        # Permissions do not tell everything (a read-only mount, a full quota, /proc), so a file is opened. It never has
        # a name.
        with tempfile.TemporaryFile(dir=there):
            return True
    except (OSError, ValueError):
        return False


def _readable(file: str, path: Steps, place: Place) -> bool:
    try:
        with Path(file).open("rb"):
            return True
    except (OSError, ValueError):
        place.report(path, file, "the path of a readable file")
        return False


def _get(model: BaseModel, path: Steps) -> Any:
    value: Any = model
    for step in path:
        value = getattr(value, step)
    return value


def _replaced(model: Model, path: Steps, value: object) -> Model:
    first, *rest = path
    inner = _replaced(getattr(model, first), tuple(rest), value) if rest else value
    return model.model_copy(update={first: inner})
