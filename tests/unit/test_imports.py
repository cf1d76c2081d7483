"""What a gateway does not load that its configuration does not need: time of each start, and memory of each worker."""

import subprocess
import sys

LOADED = "import sys, gateway.assembly.gateway, gateway.worker.worker; print(*(set(sys.argv[1:]) & set(sys.modules)))"


def test_clients_and_libraries_of_what_is_not_configured_are_not_loaded() -> None:
    names = ["redis", "cryptography", "jwt", "asyncpg", "jsonschema_rs", "yaml", "aiohttp"]
    found = subprocess.run([sys.executable, "-c", LOADED, *names], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == {"yaml", "aiohttp"}, "the last two show that names are found"
