"""The environment and `.env`, merged name by name; the environment wins.

An empty variable counts as not set. Values of `.env` are taken literally: no `${…}` expansion, the last of two lines
with the same name counts. Every name in `.env` must be ours. The process environment belongs to others too: there only
names that begin like ours, or are a hair's breadth from one of ours, are taken for mistakes.

What Kubernetes adds for a service called `redis` or `upstream` (`REDIS_PORT=tcp://…`, `REDIS_SERVICE_HOST`) and what
Docker Compose keeps in `.env` (`COMPOSE_…`, `DOCKER_…`) is left alone.
"""

import difflib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import parse_stream

from gateway.config.problems import UNKNOWN, Problem, nearest, number, shown
from gateway.config.schema import Variable, variables
from gateway.config.settings import Settings

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
        lowest, highest = VARIABLES[self.target].bounds or (0, 0)
        return (lowest - self.offset) * self.divisor, (highest - self.offset) * self.divisor

    @property
    def allowed(self) -> str:
        lowest, highest = self.bounds
        return f"an integer from {number(lowest)} to {number(highest)}"

    def convert(self, value: int) -> str:
        return number(value / self.divisor + self.offset)


ALIASES: Mapping[str, Alias] = {
    "TIMEOUT_THRESHOLD_MS": Alias("UPSTREAM_TIMEOUT", "in milliseconds", divisor=1000),
    "MAX_RETRIES": Alias("RETRY_MAX_ATTEMPTS", "counted without the first attempt", offset=1),
    "CIRCUIT_BREAKER_THRESHOLD": Alias("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "the same number"),
    "CIRCUIT_BREAKER_TIMEOUT": Alias("CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS", "in milliseconds", divisor=1000),
    "WEBSOCKET_TIMEOUT_MS": Alias("WEBSOCKET_IDLE_TIMEOUT_SECONDS", "in milliseconds", divisor=1000),
}

KNOWN = (*VARIABLES, *ALIASES)

# Each names a Redis of its own: whichever the environment sets, those of `.env` are another one and do not count.
_REDIS_WHERE = ("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_SENTINELS", "REDIS_CLUSTER_NODES")

_OUR_PREFIXES = (
    "BULKHEAD_",
    "CIRCUIT_BREAKER_",
    "EJECTION_",
    "LOAD_SHED_",
    "MAX_INFLIGHT_",
    "RATE_LIMIT_",
    "REDIS_",
    "RETRY_",
    "UPSTREAM_",
)
_MAX_CUTOFF = 0.8
_STRANGER_CUTOFF = 0.9
_COMPOSE_PREFIXES = ("COMPOSE_", "DOCKER_")
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
    """All variables that are set, under their own names, and what is wrong with the names."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def source(self, name: str) -> str:
        given = self.given.get(name)
        return given.source if given else f"environment {name}"


def read(environ: Mapping[str, str], env_file: Path | None) -> Variables:
    result = Variables()
    in_environment = _resolve(_from_environment(environ, result.problems), result.problems)
    in_file = _resolve(_from_file(env_file, result.problems), result.problems) if env_file else {}
    if any(name in in_environment for name in _REDIS_WHERE):
        for name in _REDIS_WHERE:
            in_file.pop(name, None)
    result.given = in_file | in_environment
    return result


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> Iterator[tuple[str, str, str]]:
    for name, text in environ.items():
        value = text.strip()
        if not value or _is_service_link(name, value):
            continue
        if name in VARIABLES or name in ALIASES:
            yield name, value, f"environment {name}"
        elif _looks_like_ours(name):
            problems.append(Problem(f"environment {name}", UNKNOWN, _UNKNOWN_ALLOWED, nearest(name, KNOWN)))


def _from_file(path: Path, problems: list[Problem]) -> Iterator[tuple[str, str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        problems.append(Problem(str(path), shown(reason), "a readable text file"))
        return
    for binding in parse_stream(io.StringIO(text)):
        source = f"{path}:{_first_line(binding.original.string, binding.original.line)}"
        name, value = binding.key, binding.value
        if binding.error or (name is not None and value is None):
            problems.append(Problem(source, "a line that says nothing", "NAME=value, comments and empty lines"))
        elif name is None or value is None:
            continue
        elif name in VARIABLES or name in ALIASES:
            if value.strip():
                yield name, value.strip(), f"{source} {name}"
        elif not name.startswith(_COMPOSE_PREFIXES):
            problems.append(Problem(f"{source} {name}", UNKNOWN, _UNKNOWN_ALLOWED, nearest(name, KNOWN)))


def _first_line(text: str, line: int) -> int:
    # python-dotenv counts from the blank lines before a binding.
    return line + text[: len(text) - len(text.lstrip())].count("\n")


def _resolve(found: Iterator[tuple[str, str, str]], problems: list[Problem]) -> dict[str, Given]:
    """Put aliases in the place of their targets; name and alias together must mean the same."""
    given: dict[str, Given] = {}
    for name, value, source in found:
        given[name] = Given(value, source, value)
    for name, alias in ALIASES.items():
        used = given.pop(name, None)
        if used is None:
            continue
        if not (used.value.isascii() and used.value.isdigit() and len(used.value) <= 12):
            problems.append(Problem(used.source, shown(used.value), alias.allowed))
            continue
        converted = Given(alias.convert(int(used.value)), used.source, used.value, alias.allowed)
        target = given.setdefault(alias.target, converted)
        if not _same_number(target.value, converted.value):
            problems.append(
                Problem(
                    used.source,
                    shown(used.value),
                    f"not together with {target.source}, which says {shown(target.value)}; set one of them",
                )
            )
    return given


def _same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK_NAME.fullmatch(name) and name not in VARIABLES:
        return True
    return name.endswith("_PORT") and _SERVICE_LINK_VALUE.match(value) is not None


def _looks_like_ours(name: str) -> bool:
    if name.startswith(_OUR_PREFIXES):
        return True
    cutoff = _MAX_CUTOFF if name.startswith("MAX_") else _STRANGER_CUTOFF
    return "_" in name and bool(difflib.get_close_matches(name, KNOWN, n=1, cutoff=cutoff))
