"""Compiles the modules on the path of a request with mypyc, when GATEWAY_COMPILE=1; else the package is plain Python.

The same source serves both ways: what is compiled is what `mypy --strict` checks. Everything else about the package
stands in pyproject.toml. `make build` calls this with what the development lock holds; the Dockerfile does likewise.
"""

import os
from pathlib import Path

from setuptools import setup

HOT_PACKAGES = ("gateway/policy", "gateway/proxy", "gateway/wire", "gateway/fleet", "gateway/telemetry")
HOT_MODULES = ("gateway/compiled.py", "gateway/reasons.py")

# What stays interpreted in those packages, and why.
INTERPRETED = {
    # No request reaches these: they wait on others, or run when somebody asks.
    "gateway/fleet/figures.py",
    "gateway/fleet/sync.py",
    "gateway/proxy/explain.py",
    "gateway/proxy/health_check.py",
    "gateway/telemetry/alert_check.py",
    "gateway/telemetry/alerts.py",
    "gateway/telemetry/app_log.py",
    "gateway/telemetry/collector.py",
    "gateway/telemetry/exposition.py",
    "gateway/telemetry/figures.py",
    "gateway/telemetry/lines.py",
    "gateway/telemetry/log_files.py",
    "gateway/telemetry/process_stats.py",
    "gateway/telemetry/snapshot.py",
    "gateway/telemetry/webhook.py",
    "gateway/wire/client/resolver.py",
    # A coroutine that awaits in a `finally`: compiled, it goes on without the exception, CancelledError among them.
    "gateway/wire/client/connect.py",
    "gateway/wire/client/dial.py",
    "gateway/wire/server/certificate.py",
    # A class in a class, with lambdas: mypyc ends with an internal error.
    "gateway/telemetry/rates.py",
}


def hot_modules() -> list[str]:
    """The paths of what is compiled, relative to this file."""
    found = [*HOT_MODULES]
    for package in HOT_PACKAGES:
        found += sorted(path.as_posix() for path in Path(package).rglob("*.py"))
    return [path for path in found if path not in INTERPRETED]


def main() -> None:
    """What the build backend runs."""
    if os.environ.get("GATEWAY_COMPILE") != "1":
        setup()
        return
    from mypyc.build import mypycify  # noqa: PLC0415 - a plain build needs no mypy

    options = ["--strict", "--no-warn-unused-ignores"]
    setup(ext_modules=mypycify([*options, *hot_modules()], opt_level="3", debug_level="0"))


if __name__ == "__main__":
    main()
