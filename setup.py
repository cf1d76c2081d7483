"""Compiles the modules on the path of a request with mypyc, when GATEWAY_COMPILE=1; else the package is plain Python.

The same source serves both ways: what is compiled is what `mypy --strict` checks. Everything else about the package
stands in pyproject.toml. `make build` calls this with what the development lock holds; the Dockerfile does likewise.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

HOT_PACKAGES = (
    *("gateway/policy", "gateway/proxy", "gateway/wire", "gateway/fleet", "gateway/telemetry"),
    *("gateway/identity", "gateway/jose", "gateway/validation"),
)
HOT_MODULES = ("gateway/compiled.py", "gateway/reasons.py", "gateway/store/redis/encoding.py")

# What stays interpreted in those packages, and why.
INTERPRETED = {
    # No request reaches these: they wait on others, or run when somebody asks.
    "gateway/fleet/faults.py",
    "gateway/fleet/figures.py",
    "gateway/fleet/sync.py",
    "gateway/fleet/following.py",
    "gateway/identity/key_sources.py",
    "gateway/identity/lookups.py",
    "gateway/identity/usage.py",
    "gateway/proxy/routes/explain.py",
    "gateway/proxy/destinations/explain_fallback.py",
    "gateway/proxy/upstreams/health_check.py",
    "gateway/proxy/errands/own_requests.py",
    "gateway/proxy/errands/rehearsal.py",
    "gateway/proxy/upstreams/certificates.py",
    "gateway/proxy/upstreams/gauges.py",
    "gateway/telemetry/alerts/alerts.py",
    "gateway/telemetry/alerts/check.py",
    "gateway/telemetry/alerts/rules.py",
    "gateway/telemetry/alerts/webhook.py",
    "gateway/telemetry/log/application.py",
    "gateway/telemetry/log/files.py",
    "gateway/telemetry/metrics/collector.py",
    "gateway/telemetry/metrics/exposition.py",
    "gateway/telemetry/metrics/process_stats.py",
    "gateway/telemetry/metrics/snapshot.py",
    "gateway/telemetry/services/figures.py",
    "gateway/telemetry/tracing/exporter.py",
    "gateway/telemetry/tracing/spans.py",
    "gateway/validation/apart.py",
    "gateway/validation/documents.py",
    "gateway/validation/judging.py",
    "gateway/validation/kinds.py",
    "gateway/validation/recursion.py",
    "gateway/wire/client/resolver.py",
    # A coroutine that awaits in a `finally`: compiled, it goes on without the exception, CancelledError among them.
    "gateway/wire/client/connect.py",
    "gateway/wire/client/dial.py",
    "gateway/wire/server/certificate.py",
    # A class in a class, with lambdas: mypyc ends with an internal error.
    "gateway/telemetry/services/rates.py",
}


def hot_modules() -> list[str]:
    """The paths of what is compiled, relative to this file."""
    found = [*HOT_MODULES]
    for package in HOT_PACKAGES:
        found += sorted(path.as_posix() for path in Path(package).rglob("*.py"))
    return [path for path in found if path not in INTERPRETED]


class BuildOnAllCores(build_ext):
    """Compiles one C file on each core; setuptools' own `parallel` would compile those of an extension one by one."""

    def build_extensions(self) -> None:
        one_by_one = self.compiler.compile
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as cores:

            def compile_all(sources: list[str], **options: Any) -> list[str]:
                made = cores.map(lambda source: one_by_one([source], **options), sources)
                return [each for objects in made for each in objects]

            self.compiler.compile = compile_all
            super().build_extensions()


def main() -> None:
    """What the build backend runs."""
    if os.environ.get("GATEWAY_COMPILE") != "1":
        setup()
        return
    from mypyc.build import mypycify  # noqa: PLC0415 - a plain build needs no mypy

    options = ["--strict", "--no-warn-unused-ignores"]
    # A C file for each module: in one for all, the compiler takes ten times as long and a gigabyte of memory.
    extensions = mypycify([*options, *hot_modules()], multi_file=True, opt_level="3", debug_level="0")
    setup(ext_modules=extensions, cmdclass={"build_ext": BuildOnAllCores})


if __name__ == "__main__":
    main()
