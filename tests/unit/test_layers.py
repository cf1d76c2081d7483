"""The layers are one-way: every import in the program is one that its layer allows.

A module's layer is the longest of the names in `LAYERS` that covers it: `gateway.store.redis` is in `gateway.store`.
Within `gateway.config`, `gateway.control`, `gateway.proxy` and `gateway.telemetry` the layers are stages: see `staged`.
Imports are read from the syntax tree, so those inside functions count too.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.statements import statements

ROOT = Path(__file__).resolve().parents[2]

# With what the two are made of and ask their users to import.
PYDANTIC = {"pydantic", "pydantic_core", "annotated_types", "dotenv"}
THEIRS = {
    "aiohttp",
    "asyncpg",
    "hiredis",
    "httptools",
    "orjson",
    "prometheus_client",
    "redis",
    "uvloop",
    "yaml",
    *PYDANTIC,
}


@dataclass(frozen=True)
class Layer:
    """What a layer may import besides itself and the standard library, as dotted prefixes; `bans` go before."""

    allows: frozenset[str] = frozenset()
    bans: frozenset[str] = frozenset()


def layer(*allows: str, bans: tuple[str, ...] = ()) -> Layer:
    return Layer(frozenset(allows), frozenset(bans))


def models(*sections: str) -> tuple[str, ...]:
    """What of the configuration those need who run by it: the domain types of these sections."""
    return tuple(f"gateway.config.sections.{section}.model" for section in sections)


Stage = tuple[tuple[str, ...], tuple[str, ...]]
"""Names within a package, and what they may import from outside of it."""


def staged(package: str, stages: Iterable[Stage]) -> dict[str, Layer]:
    """The layers within a package. Each stage may also import itself and the stages before it."""
    layers: dict[str, Layer] = {}
    for names, others in stages:
        own = [f"{package}.{name}" for name in names]
        layers |= dict.fromkeys(own, layer(*layers, *own, *others))
    return layers


def config_layers() -> dict[str, Layer]:
    """The layers within `gateway.config`, a stage a line: its names, in which a `*` is any section, and what it may
    import from outside."""
    stages: tuple[Stage, ...] = (
        (("problems",), ()),
        # Texts as plain values, with the line of each.
        (("reading",), ("gateway.syntax.aliases", "yaml", "dotenv")),
        # How a setting is declared. What is declared with it stands in the sections.
        (("declaring",), ("gateway.syntax", *PYDANTIC)),
        (
            ("sections.*.model",),
            ("gateway.hooks.loading", "gateway.policy", "gateway.saga", "gateway.syntax", "gateway.validation.rules"),
        ),
        (("sections.*.settings",), ("gateway.policy", "gateway.syntax", *PYDANTIC)),
        # All sections together.
        (("model", "settings", "file"), ("gateway.saga", *PYDANTIC)),
        # What was given, and where: with it sections are built.
        (("building",), ("gateway.saga", "gateway.syntax", *PYDANTIC)),
        (
            ("sections.*.build", "sections.workflows.templates"),
            (
                *("gateway.hooks.loading", "gateway.jose", "gateway.policy", "gateway.saga", "gateway.syntax"),
                *("gateway.validation", *PYDANTIC),
            ),
        ),
        (("assemble",), tuple(PYDANTIC)),
        (("loading",), tuple(PYDANTIC)),
        (("command_line", "worker_shares"), ("gateway.policy",)),
        (("report",), ("gateway.syntax",)),
        (("documents",), tuple(PYDANTIC)),
    )
    sections = sorted(path.parent.name for path in (ROOT / "gateway/config/sections").glob("*/__init__.py"))

    def named(name: str) -> list[str]:
        return [name.replace("*", section) for section in sections] if "*" in name else [name]

    return staged(
        "gateway.config", [(tuple(each for name in names for each in named(name)), others) for names, others in stages]
    )


def control_layers() -> dict[str, Layer]:
    """The layers within `gateway.control`, likewise."""
    return staged(
        "gateway.control",
        (
            # What the control plane knows of the gateway, and what it may order.
            (("ports",), ()),
            (("models",), ("pydantic", "annotated_types")),
            (("serving",), ("aiohttp", "orjson")),
            (("paths", "history"), ()),
            (("root_page",), ("aiohttp", "orjson")),
            (("access", "services"), ("gateway.syntax",)),
            (("gauges", "scrape"), ("gateway.telemetry", "aiohttp")),
            (("parts",), ("gateway.telemetry",)),
            (("health",), ("gateway.telemetry", "aiohttp", "orjson")),
            (("service_health", "status"), ("gateway.telemetry", "aiohttp")),
            (("live",), ("gateway.syntax", "gateway.telemetry", "aiohttp", "orjson")),
            (
                ("api",),
                (
                    *("gateway.reasons", "gateway.syntax", "gateway.telemetry"),
                    *("aiohttp", "orjson", "pydantic", "annotated_types"),
                ),
            ),
            (("console",), ("gateway.reasons", "aiohttp", "orjson")),
            (("app",), ("gateway.telemetry", "aiohttp")),
        ),
    )


def proxy_layers() -> dict[str, Layer]:
    """The layers within `gateway.proxy`, likewise."""
    decisions = ("gateway.policy", "gateway.fleet")
    durable = ("gateway.idempotency", "gateway.journal")
    return staged(
        "gateway.proxy",
        (
            (("field_edits",), (*models("headers"), "gateway.identity")),
            # What is read of a request.
            (
                ("requests",),
                (
                    *("gateway.hooks", "gateway.identity", "gateway.policy"),
                    *("gateway.syntax", "gateway.wire", "mypy_extensions"),
                ),
            ),
            # What the gateway says itself. These are values.
            (("answers",), ("gateway.reasons", "gateway.telemetry", "gateway.wire")),
            (("tunnels",), (*models("routes"), "gateway.background", "gateway.telemetry", "gateway.wire")),
            (("ticket",), (*decisions, "gateway.idempotency", "gateway.identity", "gateway.telemetry", "gateway.wire")),
            (("defects", "recorder", "runtime"), ("gateway.telemetry", "gateway.wire")),
            # What gates and filters are, without the kinds of them.
            (("gate",), ("gateway.identity", "gateway.policy", "mypy_extensions")),
            (("filter",), ("gateway.wire", "mypy_extensions")),
            (("writer",), ("gateway.policy", "gateway.wire")),
            (
                ("upstreams",),
                (
                    *(*models("upstreams"), *decisions, "gateway.alarm", "gateway.background", "gateway.syntax"),
                    *("gateway.system.watched_files", "gateway.telemetry", "gateway.wire"),
                ),
            ),
            (
                ("destinations",),
                (
                    *(*models("fallback", "mirror", "split"), *decisions, "gateway.identity"),
                    *("gateway.reasons", "gateway.syntax", "gateway.telemetry", "gateway.wire"),
                ),
            ),
            (
                ("hooks",),
                (
                    *(*models("headers", "hooks"), "gateway.hooks", "gateway.policy", "gateway.syntax"),
                    *("gateway.telemetry", "gateway.wire"),
                ),
            ),
            (
                ("filters",),
                (
                    *(*models("cors", "headers"), "gateway.identity", "gateway.policy", "gateway.syntax"),
                    *("gateway.telemetry", "gateway.wire"),
                ),
            ),
            (
                ("gates",),
                (
                    *models("deliver", "hooks", "idempotency", "identity", "shedding", "validation"),
                    *(*decisions, *durable, "gateway.hooks", "gateway.identity", "gateway.saga", "gateway.syntax"),
                    *("gateway.telemetry", "gateway.validation", "gateway.wire", "mypy_extensions", "orjson"),
                ),
            ),
            # What a route is made of, and what follows from a head on it.
            (
                ("routes",),
                (
                    *("gateway.config.model", *models("routes"), *decisions, *durable, "gateway.identity"),
                    *("gateway.syntax", "gateway.telemetry", "gateway.wire"),
                ),
            ),
            (
                ("forward",),
                (*decisions, "gateway.alarm", "gateway.hooks", "gateway.reasons", "gateway.telemetry", "gateway.wire"),
            ),
            (("errands",), ("gateway.policy", "gateway.reasons", "gateway.telemetry", "gateway.wire")),
            (("exchanges",), (*durable, "gateway.policy", "gateway.reasons", "gateway.wire")),
        ),
    )


def telemetry_layers() -> dict[str, Layer]:
    """The layers within `gateway.telemetry`, likewise."""
    return staged(
        "gateway.telemetry",
        (
            (("digits", "busiest"), ()),
            (("metrics",), ("gateway.compiled", "gateway.reasons", "orjson", "prometheus_client")),
            (("services",), ("gateway.reasons", "orjson")),
            (("tracing.trace",), ()),
            # What is told about one request.
            (("record",), ()),
            (("log",), ("gateway.background", "mypy_extensions", "orjson")),
            (("alerts",), ("gateway.background",)),
            # It waits on somebody else's server, in a task of its own.
            (("alerts.webhook",), ("gateway.background", "aiohttp", "orjson")),
            (("tracing.tracer",), ("gateway.reasons",)),
            (("tracing.spans",), ("google", "opentelemetry")),
            # It waits on a collector, in a thread of its own. The library is loaded only where there is one.
            (("tracing", "tracing.exporter"), ("aiohttp", "google", "opentelemetry")),
        ),
    )


LAYERS = {
    # Every layer needs the words.
    "gateway.reasons": layer(),
    "gateway.compiled": layer(),
    "gateway.syntax": layer(bans=("asyncio", "http", "socket", "ssl")),
    "gateway.system": layer(),
    # Whatever runs beside the requests.
    "gateway.background": layer(),
    "gateway.alarm": layer(),
    "gateway.ipc": layer("orjson"),
    "gateway.policy": layer(bans=("asyncio", "http", "socket", "ssl", "urllib")),
    "gateway.store": layer(
        *("gateway.alarm", "gateway.ipc.channel", "gateway.policy", "gateway.syntax"),
        *models("redis"),
        *("redis", "hiredis", "orjson"),
    ),
    "gateway.journal": layer("gateway.background", *models("journal"), "asyncpg"),
    # Only a test can set one. Whoever promises something comes by here.
    "gateway.journal.fault_points": layer(),
    "gateway.fleet": layer(
        *("gateway.alarm", "gateway.background", "gateway.policy", "gateway.store"),
        *models("upstreams"),
        "mypy_extensions",
    ),
    "gateway.identity": layer(
        "gateway.background",
        *models("identity", "issuers"),
        "gateway.jose",
        "gateway.policy",
        "gateway.store.port",
        "gateway.store.keys",
        "gateway.store.usage",
        "gateway.fleet.link",
    ),
    # It waits on issuers of tokens, in tasks of its own.
    "gateway.identity.key_sources": layer(
        "gateway.background", "gateway.identity", "gateway.jose", "gateway.system.watched_files", "aiohttp"
    ),
    # Tokens and keys as JSON, and nothing of the gateway. Only one file needs the library.
    "gateway.jose.jwk": layer("gateway.jose", "jwt", "cryptography"),
    "gateway.jose": layer("orjson", bans=("asyncio", "http", "socket", "ssl", "urllib")),
    # It knows no connection and no gate, so that it can run in a process of its own.
    "gateway.validation": layer(
        "gateway.syntax", "jsonschema_rs", "orjson", "yaml", bans=("http", "socket", "ssl", "urllib.request")
    ),
    "gateway.wire": layer(
        "gateway.alarm",
        "gateway.background",
        "gateway.syntax",
        "gateway.system.watched_files",
        "uvloop",
        "httptools",
        "mypy_extensions",
    ),
    "gateway.telemetry": layer(),
    **telemetry_layers(),
    "gateway.idempotency": layer("gateway.background", *models("idempotency"), "gateway.journal"),
    "gateway.outbox": layer(),
    # Decided without clocks, waiting or sending.
    "gateway.saga": layer("orjson", bans=("asyncio", "http", "socket", "ssl", "urllib.request", "time")),
    # Beside the path of a request: it sends requests of the gateway's own.
    "gateway.saga_runner": layer(
        "gateway.background",
        "gateway.journal",
        "gateway.proxy",
        "gateway.saga",
        "gateway.wire.message.request",
        "orjson",
    ),
    # Beside the path of a request: it sends requests of the gateway's own.
    "gateway.outbox.relay": layer(
        *models("deliver"),
        "gateway.journal",
        "gateway.outbox",
        "gateway.proxy",
        "gateway.wire.message.request",
    ),
    "gateway.proxy": layer(),
    **proxy_layers(),
    # What authors of hooks import, and nothing of the gateway with it.
    "gateway.hooks": layer(bans=("gateway.hooks.loading",)),
    "gateway.hooks.loading": layer(),
    "gateway.control": layer(),
    **control_layers(),
    "gateway.config": layer(),
    **config_layers(),
    "gateway.assembly": layer("gateway"),
    "gateway.assembly.gateway": layer("gateway", *THEIRS),
    "gateway.assembly.fleet": layer("gateway", bans=("gateway.supervisor", "gateway.worker", "gateway.control")),
    "gateway.assembly.tokens": layer("gateway", bans=("gateway.supervisor", "gateway.worker", "gateway.control")),
    "gateway.assembly.control": layer("gateway", bans=("gateway.supervisor",)),
    "gateway.assembly.sagas": layer("gateway", bans=("gateway.supervisor", "gateway.worker")),
    "gateway.assembly.outbox": layer("gateway", bans=("gateway.supervisor", "gateway.worker")),
    "gateway.assembly.telemetry": layer(
        "gateway.config.model", *models("log"), "gateway.control.history", "gateway.telemetry"
    ),
    "gateway.assembly.journal": layer("gateway.config.model", "gateway.journal", "gateway.telemetry.metrics.catalogue"),
    "gateway.assembly.tracing": layer(
        "gateway.__version__",
        "gateway.config.model",
        "gateway.identity.masking",
        "gateway.proxy.requests.ids",
        "gateway.telemetry",
    ),
    "gateway.assembly.hooks": layer("gateway.proxy", "gateway.telemetry"),
    "gateway.assembly.faults": layer("gateway", bans=("gateway.supervisor", "gateway.worker", "gateway.control")),
    "gateway.views": layer(),
    "gateway.views.identity": layer(
        "gateway.control.ports.callers",
        "gateway.fleet.link",
        "gateway.identity",
        "gateway.store.keys",
        "gateway.store.port",
    ),
    "gateway.views.journal": layer("gateway.control.ports.journal", "gateway.journal"),
    "gateway.views.idempotency": layer(
        *models("idempotency"),
        "gateway.control.ports.journal",
        "gateway.idempotency",
        "gateway.journal",
        "gateway.views.journal",
    ),
    "gateway.views.faults": layer(
        "gateway.control.ports.faults", "gateway.fleet.faults", "gateway.policy", "gateway.proxy", "gateway.store.port"
    ),
    "gateway.views.outbox": layer(
        *models("deliver"), "gateway.control.ports.outbox", "gateway.journal", "gateway.views.journal"
    ),
    "gateway.views.sagas": layer(
        *models("workflows"),
        "gateway.control.ports.sagas",
        "gateway.journal",
        "gateway.views.journal",
        "gateway.saga",
        "gateway.saga_runner.job",
    ),
    "gateway.views.process": layer(
        *models("fallback", "mirror"),
        "gateway.control.ports.journal",
        "gateway.journal.port",
        "gateway.control.ports.gateway",
        "gateway.fleet",
        "gateway.identity.tokens",
        "gateway.policy",
        "gateway.proxy",
        "gateway.telemetry",
        "gateway.wire",
    ),
    "gateway.commands": layer(),
    "gateway.commands.gate_descriptions": layer(
        "gateway.assembly.gateway", "gateway.config.model", "gateway.telemetry.log.lines"
    ),
    "gateway.assembly.lifecycle": layer("gateway", bans=("gateway.supervisor", "gateway.worker")),
    # It serves no request: neither the data plane nor the control plane is any of its business.
    "gateway.supervisor": layer(
        "gateway.ipc",
        "gateway.syntax",
        "gateway.policy",
        "gateway.store",
        "gateway.telemetry.log.application",
        "gateway.telemetry.log.lines",
        "gateway.telemetry.log.files",
        "gateway.telemetry.metrics.snapshot",
        "gateway.__version__",
        "uvloop",
    ),
    "gateway.worker": layer("gateway", "orjson", "uvloop", bans=("gateway.supervisor",)),
    # What a worker and its supervisor say to each other.
    **{
        f"gateway.worker.{part}": layer("gateway.worker", "gateway.control", "gateway.telemetry")
        for part in ("gauges", "host", "loop_lag", "one_service", "supervisor", "whole_busy", "whole_view")
    },
    "gateway.commands.configuration": layer(
        "gateway.config", "gateway.system.cores", "gateway.commands.gate_descriptions", "gateway.operator"
    ),
    "gateway.commands.journal": layer("gateway.config", "gateway.journal"),
    # It is a client of the control plane, and knows no more of the gateway than how a time is written.
    "gateway.operator": layer("gateway.syntax"),
    "gateway.operator.top_notices": layer("gateway.operator", "rich"),
    "gateway.operator.top_screen": layer("gateway.operator", "rich"),
    "gateway.operator.top": layer("gateway.operator", "gateway.syntax", "rich"),
    "gateway.cli": layer(
        "gateway.compiled",
        "gateway.commands",
        "gateway.operator",
        "gateway.supervisor",
    ),
    "gateway.__main__": layer("gateway.cli"),
    "upstream_stub": layer("aiohttp", "uvloop"),
}


def source_files() -> list[Path]:
    return sorted(path for package in ("gateway", "upstream_stub") for path in (ROOT / package).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def covers(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def imported(module: str, tree: ast.AST, *, package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported; for `from a import b` the name is `a.b`, module or not."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")
            base = base[: len(base) - node.level + package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}"


def violations(module: str, source: str, *, package: bool = False) -> list[str]:
    """One line for each import that the layer of `module` does not allow."""
    own = max((name for name in LAYERS if covers(name, module)), key=len, default=None)
    if own is None:
        return [] if module == "gateway" and not source.count("import ") else [f"{module} belongs to no layer"]
    rules = LAYERS[own]
    found = []
    for line, name in imported(module, ast.parse(source), package=package):
        banned = any(covers(prefix, name) for prefix in rules.bans)
        standard = name.split(".")[0] in sys.stdlib_module_names
        allowed = standard or covers(own, name) or any(covers(prefix, name) for prefix in rules.allows)
        # The package itself holds the version and imports nothing.
        allowed = allowed or name == "gateway.__version__"
        if banned or not allowed:
            found.append(f"{module}:{line} imports {name}, which {own} may not")
    return found


def graph(files: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """Which files each file imports. `files` are sources, by the dotted name, with whether it is a package's own.
    Imports within functions and under TYPE_CHECKING count."""
    found = {}
    for module, (source, package) in files.items():
        names = {name for _, name in imported(module, ast.parse(source), package=package)}
        found[module] = {name if name in files else name.rpartition(".")[0] for name in names} & files.keys() - {module}
    return found


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The groups of files that import each other, at first or second hand."""
    reached: dict[str, set[str]] = {}
    for module in imports:
        seen: set[str] = set()
        to_visit = [module]
        while to_visit:
            for name in imports[to_visit.pop()] - seen:
                seen.add(name)
                to_visit.append(name)
        reached[module] = seen
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in imports
        if module in reached[module]
    }
    return [list(group) for group in sorted(groups)]


def test_no_two_files_import_each_other() -> None:
    """Nor does one import itself by way of others."""
    files = {dotted(path): (path.read_text(), path.stem == "__init__") for path in source_files()}
    assert circles(graph(files)) == []


def test_a_circle_is_found() -> None:
    files = {
        "a": ("from b import B", False),
        "b": ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.c import C", False),
        "p": ("", True),
        "p.c": ("def f():\n    import a", False),
        "d": ("import a\nfrom p import c", False),
        "e": ("import sys\nfrom . import d", False),
    }
    assert circles(graph(files)) == [["a", "b", "p.c"]]


@pytest.mark.parametrize(
    ("package", "stages"),
    [
        ("gateway.config", config_layers()),
        ("gateway.control", control_layers()),
        ("gateway.proxy", proxy_layers()),
        ("gateway.telemetry", telemetry_layers()),
    ],
)
def test_every_file_of_a_package_with_stages_belongs_to_one(package: str, stages: dict[str, Layer]) -> None:
    """Its layer is none of the whole package, within which everything would be allowed."""
    files = [path for path in source_files() if path.read_text() and dotted(path).startswith(f"{package}.")]
    assert [dotted(path) for path in files if not any(covers(name, dotted(path)) for name in stages)] == []


def test_every_import_is_allowed() -> None:
    files = source_files()
    assert len(files) > 10
    found = [
        line for path in files for line in violations(dotted(path), path.read_text(), package=path.stem == "__init__")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gateway.policy.limit", "import asyncio"),
        ("gateway.policy.limit", "def f():\n    import redis"),
        ("gateway.policy.limit", "from gateway.store import port"),
        ("gateway.policy.limit", "from ..config import model"),
        ("gateway.store.memory", "from gateway.config.settings import Settings"),
        ("gateway.store.memory", "from gateway import config"),
        ("gateway.wire.server.registry", "from gateway.policy.outcome import Outcome"),
        ("gateway.wire.server.registry", "import aiohttp"),
        ("gateway.proxy.forward.attempt", "from gateway.store.port import Store"),
        ("gateway.proxy.forward.attempt", "import aiohttp"),
        ("gateway.proxy.forward.retries", "from gateway.proxy.exchanges.exchange import Exchange"),
        ("gateway.proxy.gate", "from gateway.proxy.gates.circuit import CircuitGate"),
        ("gateway.proxy.requests.body", "from gateway.proxy.ticket import Ticket"),
        ("gateway.control.health", "from gateway.fleet.link import Link"),
        ("gateway.control.ports.faults", "from gateway.control.models.faults import Fault"),
        ("gateway.control.serving.queue", "from gateway.control.app import ControlPlane"),
        ("gateway.control.live.snapshot", "from gateway.control.api.operation import Call"),
        ("gateway.store.redis", "from gateway.config.model import GatewayConfig"),
        ("gateway.config.model", "import aiohttp"),
        ("gateway.config.reading.yaml_tree", "from gateway.config.settings import Settings"),
        ("gateway.config.sections.mirror.model", "from gateway.config.sections.mirror.settings import Mirror"),
        ("gateway.config.sections.mirror.settings", "from gateway.config.building.sources import Sources"),
        ("gateway.config.sections.mirror.build", "from gateway.config.assemble import assemble"),
        ("gateway.config.building.place", "from gateway.config import load"),
        ("gateway.telemetry.metrics.catalogue", "from gateway.telemetry.log.lines import LineWriter"),
        ("gateway.telemetry.log.access", "from gateway.telemetry.alerts.alerts import Alerts"),
        ("gateway.cli", "from gateway.proxy.exchanges.front import Front"),
        ("upstream_stub.app", "import gateway"),
        ("gateway.elsewhere", "import os"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gateway.policy.limit", "import math\nfrom gateway.policy.outcome import Outcome\nfrom . import retry"),
        (
            "gateway.store.redis",
            "import asyncio\nfrom redis.asyncio import Redis\nfrom gateway.config.sections.redis import model",
        ),
        ("gateway.store.redis", "from gateway.config.sections.redis.model import RedisConfig"),
        ("gateway.config.sections.mirror.build", "from gateway.config.sections.routes.settings import FileRoute"),
        ("gateway.assembly.gateway", "from gateway.wire.server.registry import Server\nimport uvloop"),
    ],
)
def test_an_allowed_import_is_not(module: str, source: str) -> None:
    assert violations(module, source) == []
