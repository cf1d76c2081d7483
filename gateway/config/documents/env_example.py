"""The text of `.env.example`, from the declarations of the settings.

    python -m gateway.config.documents.env_example > .env.example

A test compares the file with this, so that names, defaults and ranges cannot drift apart.
"""

import sys

from pydantic import BaseModel

from gateway.config.building.variables import ALIASES, VARIABLES
from gateway.config.declaring.inspection import Variable

# Chosen for the drills of the operations runbook: they must show what they promise within seconds.
EXAMPLE: dict[str, tuple[str, str]] = {
    "UPSTREAM_URL": ("http://127.0.0.1:5001", "the stub upstream"),
    "RATE_LIMIT_CAPACITY": ("20", "100 quick requests meet some 429s; raise it for production"),
    "RATE_LIMIT_REFILL_RATE": (
        "10",
        "they empty the bucket even where each takes 75 ms; it is full again after 2 s",
    ),
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": ("2", "a few failing requests trip the breaker, also right after those above"),
}


def env_example() -> str:
    """The text of `.env.example`."""
    lines = [
        "# Every setting of the gateway. Copy to .env and change what you need. Commented out: the default.",
        "# Variables of the process environment win over this file. An empty value counts as not set.",
        "# Times may have a unit (500ms, 5s, 2m), sizes too (64KiB, 1MB); ${NAME} and ${NAME:-default} are expanded.",
        "# `gateway check` says what is wrong; docs/configuration.md says more.",
    ]
    group: type[BaseModel] | None = None
    for name, variable in VARIABLES.items():
        if variable.section is not group:
            group = variable.section
            lines += ["", f"## {group.__doc__}"]
        lines.append(f"# {_sentence(variable)}")
        value, why = EXAMPLE.get(name, (None, None))
        if value is None:
            lines.append(f"#{name}={variable.default_text}")
        else:
            lines += [f"# Here {value}: {why}.", f"{name}={value}"]
    lines += [
        "",
        "## Aliases of the platform runbook, in their own units; beside the name they stand for they must agree",
    ]
    for name, alias in ALIASES.items():
        lines += [f"# {alias.target}, {alias.meaning}. Not set by default; {alias.allowed}.", f"#{name}="]
    return "\n".join(lines) + "\n"


def _sentence(variable: Variable) -> str:
    default = variable.default_text
    when_unset = f"Default {default}" if default else f"Not set: {variable.env.unset}"
    return f"{variable.env.meaning}. {when_unset}; {variable.allowed}."


if __name__ == "__main__":
    sys.stdout.write(env_example())
