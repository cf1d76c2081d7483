"""What a gateway does not load that its configuration does not need: time of each start, and memory of each process."""

import subprocess
import sys

WORKER = "import sys, gateway.assembly.gateway, gateway.worker.worker"
SUPERVISOR = "import sys, gateway.cli, gateway.supervisor.supervisor"
LOADED = "; print(*(set(sys.argv[1:]) & set(sys.modules)))"


def loaded(code: str, names: list[str]) -> set[str]:
    found = subprocess.run([sys.executable, "-c", code + LOADED, *names], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_clients_and_libraries_of_what_is_not_configured_are_not_loaded() -> None:
    names = ["redis", "cryptography", "jwt", "asyncpg", "jsonschema_rs", "yaml", "aiohttp"]
    assert loaded(WORKER, names) == {"yaml", "aiohttp"}, "the last two show that names are found"


def test_the_supervisor_loads_nothing_that_workers_or_an_operator_s_commands_need() -> None:
    names = ["pydantic", "aiohttp", "yaml", "prometheus_client", "http.client", "email", "rich", "asyncio"]
    assert loaded(SUPERVISOR, names) == {"asyncio"}, "this one shows that names are found"
