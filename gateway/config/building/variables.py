"""The environment and `.env`, merged name by name; the environment wins.

An empty variable counts as not set. Every name in `.env` must be ours, or be referred to by `${NAME}` in `.env` or in
the YAML file. The process environment belongs to other programs too. There a name counts as a mistake only if it begins
like ours, or is very similar to one of ours; names of OpenTelemetry never do.

What Kubernetes adds for a service called `redis` or `upstream` (`REDIS_PORT=tcp://…`, `REDIS_SERVICE_HOST`) and what
Docker Compose keeps in `.env` (`COMPOSE_…`, `DOCKER_…`) is left alone.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.building import near_misses
from gateway.config.declaring.inspection import Variable, variables
from gateway.config.problems import UNKNOWN, Notice, Problem, number, shown
from gateway.config.reading import env_file
from gateway.config.reading.text_files import Texts
from gateway.config.settings import Settings
from gateway.syntax import units

VARIABLES: Mapping[str, Variable] = {variable.env.name: variable for variable in variables(Settings)}
NAMES: Mapping[tuple[str, ...], str] = {variable.path: name for name, variable in VARIABLES.items()}


@dataclass(frozen=True, slots=True)
class Alias:
    """A name of the platform runbook for `target`, in its own unit: target = value / divisor + offset."""

    target: str
    meaning: str
    divisor: int = 1
    offset: int = 0

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of the setting that the alias stands for, in the alias's own unit."""
        lowest, highest = VARIABLES[self.target].bounds or (0, 0)
        return (lowest - self.offset) * self.divisor, (highest - self.offset) * self.divisor

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        lowest, highest = self.bounds
        return f"an integer from {number(lowest)} to {number(highest)}"

    def convert(self, value: int) -> str:
        """A value of the alias as the setting that it stands for has it."""
        return number(value / self.divisor + self.offset)

    def back(self, target: str) -> str | None:
        """What the alias would have to say to mean the same as `target`; None where it cannot."""
        stated = _number(target)
        if stated is None:
            return None
        value = (stated - self.offset) * self.divisor
        lowest, highest = self.bounds
        return number(value) if lowest <= value <= highest and value.is_integer() else None


ALIASES: Mapping[str, Alias] = {
    "TIMEOUT_THRESHOLD_MS": Alias("UPSTREAM_TIMEOUT", "in milliseconds", divisor=1000),
    "MAX_RETRIES": Alias("RETRY_MAX_ATTEMPTS", "counted without the first attempt", offset=1),
    "CIRCUIT_BREAKER_THRESHOLD": Alias("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "the same number"),
    "CIRCUIT_BREAKER_TIMEOUT": Alias("CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS", "in milliseconds", divisor=1000),
    "TOOL_TIMEOUT_MS": Alias("TOOL_TIMEOUT", "in milliseconds", divisor=1000),
    "TOOL_RETRY_ATTEMPTS": Alias("TOOL_MAX_ATTEMPTS", "counted without the first attempt", offset=1),
    "VALIDATION_TIMEOUT_MS": Alias("VALIDATION_TIMEOUT_SECONDS", "in milliseconds", divisor=1000),
    "WEBSOCKET_TIMEOUT_MS": Alias("WEBSOCKET_STALL_TIMEOUT_SECONDS", "in milliseconds", divisor=1000),
}

KNOWN = (*VARIABLES, *ALIASES)

# Each of these names a Redis. Where the environment sets one of them, those in `.env` mean another Redis and do not
# count.
_REDIS_WHERE = ("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_SENTINELS", "REDIS_CLUSTER_NODES")

_OUR_PREFIXES = (
    "ADAPTIVE_LIMIT_",
    "BULKHEAD_",
    "CIRCUIT_BREAKER_",
    "EJECTION_",
    "IDEMPOTENCY_",
    "LOAD_SHED_",
    "MAX_INFLIGHT_",
    "OUTBOX_",
    "RATE_LIMIT_",
    "REDIS_",
    "RETRY_",
    "UPSTREAM_",
    "VALIDATION_",
)
_MILLISECONDS = 1000
_MAX_CUTOFF = 0.8
_STRANGER_CUTOFF = 0.9
_COMPOSE_PREFIXES = ("COMPOSE_", "DOCKER_")
# Names of a specification, many of which are for metrics, logs or other programs of the host.
_OTHERS_TOO = "OTEL_"
_SERVICE_LINK_NAME = re.compile(r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")

_UNKNOWN_ALLOWED = "the names in .env.example"


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it was given: `environment PORT` or `.env:3 PORT`, by the name that was used."""

    value: str
    source: str
    written: str
    allowed: str | None = None
    """What is allowed in the unit of the alias, where one was used."""


@dataclass(slots=True)
class Variables:
    """All variables that are set, under their own names, and what is wrong with the names.

    `texts` is what `${NAME}` may refer to: the environment, and `.env` below it. `strangers` are the names in `.env`
    that are not ours; they are a problem unless something refers to them.
    """

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    strangers: dict[str, Problem] = field(default_factory=dict)
    env_file: str = ""
    """The file that was read, or is not there."""
    env_file_absent: bool = False

    def source(self, name: str) -> str:
        """Where a variable was set, as a message begins: `file:line NAME` or `environment NAME`."""
        given = self.given.get(name)
        return given.source if given else f"environment {name}"

    def referred_to(self, names: Iterable[str]) -> None:
        """Take back that these names are unknown: something refers to them with `${NAME}`."""
        for name in names:
            self.strangers.pop(name, None)


def read(environ: Mapping[str, str], path: Path | None, texts: Texts) -> Variables:
    """The variables of the environment and of the `.env` file at `path`, None for no file, read through `texts`. A
    name in the environment takes precedence over the same name in the file. What is wrong is in the result's
    problems."""
    result = Variables(texts={name: text for name, text in environ.items() if text.strip()})
    in_environment = _resolve(_from_environment(environ, result), result.problems)
    in_file = _resolve(_from_file(path, environ, result, texts), result.problems) if path else {}
    if any(name in in_environment for name in _REDIS_WHERE):
        for name in _REDIS_WHERE:
            in_file.pop(name, None)
    result.given = in_file | in_environment
    return result


def is_secret(name: str) -> bool:
    """Whether the value of the variable must not be shown."""
    return name in VARIABLES and VARIABLES[name].env.secret


def _from_environment(environ: Mapping[str, str], result: Variables) -> Iterator[tuple[str, str, str, str]]:
    for name, text in environ.items():
        value = text.strip()
        if not value or _is_service_link(name, value):
            continue
        source = f"environment {name}"
        if name in VARIABLES or name in ALIASES:
            yield name, value, value, source
        elif _looks_like_ours(name):
            result.problems.append(_unknown(name, source))


def _from_file(
    path: Path, environ: Mapping[str, str], result: Variables, texts: Texts
) -> Iterator[tuple[str, str, str, str]]:
    read = env_file.read(path, environ, lambda name: name in VARIABLES or name in ALIASES, texts)
    result.env_file, result.env_file_absent = str(path), read.absent
    result.problems += read.problems
    result.notices += read.notices
    lines = {line.name: line for line in read.lines}
    for name, line in lines.items():
        result.texts.setdefault(name, line.value)
        if name in VARIABLES or name in ALIASES:
            if line.value.strip():
                yield name, line.value.strip(), line.written, line.source
        elif not name.startswith(_COMPOSE_PREFIXES):
            result.strangers[name] = _unknown(name, line.source)
    result.referred_to(read.referred)


def _unknown(name: str, source: str) -> Problem:
    return Problem(source, UNKNOWN, _UNKNOWN_ALLOWED, near_misses.variable(name, KNOWN))


def _resolve(found: Iterator[tuple[str, str, str, str]], problems: list[Problem]) -> dict[str, Given]:
    """Put aliases in the place of their targets; name and alias together must mean the same."""
    given: dict[str, Given] = {}
    for name, value, written, source in found:
        given[name] = Given(value, source, written)
    for name, alias in ALIASES.items():
        used = given.pop(name, None)
        if used is None:
            continue
        amount = _in_own_unit(alias, used.value)
        if amount is None:
            problems.append(Problem(used.source, shown(used.written), alias.allowed))
            continue
        converted = Given(alias.convert(amount), used.source, used.written, alias.allowed)
        target = given.setdefault(alias.target, converted)
        if not _same_number(target.value, converted.value):
            problems.append(_contradiction(alias, used, target))
    return given


def _in_own_unit(alias: Alias, text: str) -> int | None:
    """What an alias says, in its own unit; a time with a unit of its own is converted."""
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    seconds = units.duration(text) if alias.divisor == _MILLISECONDS else None
    return round(seconds * _MILLISECONDS) if seconds is not None else None


def _contradiction(alias: Alias, used: Given, target: Given) -> Problem:
    other = f"{target.source}, which says {shown(target.written)}"
    back = alias.back(target.value)
    if back is None:
        return Problem(used.source, shown(used.written), f"not together with {other}; set one of them")
    allowed = f"{back} beside {other}, because this one is {alias.meaning}; or set one of them"
    return Problem(used.source, shown(used.written), allowed)


def _same_number(one: str, other: str) -> bool:
    return _number(one) is not None and _number(one) == _number(other)


def _number(text: str) -> float | None:
    return units.duration(text) or units.number(text)


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK_NAME.fullmatch(name) and name not in VARIABLES:
        return True
    return name.endswith("_PORT") and _SERVICE_LINK_VALUE.match(value) is not None


def _looks_like_ours(name: str) -> bool:
    if name.startswith(_OTHERS_TOO):
        return False
    if name.startswith(_OUR_PREFIXES):
        return True
    cutoff = _MAX_CUTOFF if name.startswith("MAX_") else _STRANGER_CUTOFF
    return "_" in name and bool(difflib.get_close_matches(name, KNOWN, n=1, cutoff=cutoff))
