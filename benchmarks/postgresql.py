"""A PostgreSQL of a run's own, for the workloads that measure the journal: `python -m benchmarks --postgresql DIR`.

It keeps its promises as an operator's does: `fsync` and `synchronous_commit` are on. What a commit costs is mostly the
disk below DIR; with a directory in memory (`/dev/shm`) it is everything but the disk, and the report says where it was.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.host import free_port
from benchmarks.rig import ROOT, Missing

_USER: Final = "postgres"
_SETTINGS: Final = (
    "fsync=on",
    "synchronous_commit=on",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "shared_buffers=64MB",
    "max_connections=100",
)


@contextmanager
def postgresql(below: Path) -> Iterator[str]:
    """The URL of a new database with the tables of the journal; its data is in a directory `below`, and is deleted in
    the end. Raises Missing where PostgreSQL is not installed."""
    programs = _programs()
    directory = Path(tempfile.mkdtemp(prefix="bench-postgresql-", dir=below))
    as_user = _unprivileged(directory)
    data, port = directory / "data", free_port()
    try:
        initdb = ["-D", str(data), "-U", _USER, "--auth=trust", "--encoding=UTF8", "--locale=C"]
        subprocess.run([*as_user, str(programs / "initdb"), *initdb], cwd=directory, check=True, capture_output=True)
        settings = [word for each in (*_SETTINGS, f"port={port}") for word in ("-c", each)]
        command = [*as_user, str(programs / "postgres"), "-D", str(data), *settings]
        with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                url = f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
                _wait(programs, port, server)
                upgrade = [sys.executable, "-m", "gateway", "journal", "upgrade"]
                env = {**os.environ, "JOURNAL_URL": url}
                subprocess.run(upgrade, cwd=ROOT, env=env, check=True, capture_output=True)
                yield url
            finally:
                server.terminate()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _programs() -> Path:
    on_path = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = Path(on_path) if on_path else debian[-1] if debian else None
    if found is None:
        raise Missing("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return found.resolve().parent


def _unprivileged(directory: Path) -> list[str]:
    """It refuses to run as root."""
    if os.geteuid() != 0:
        return []
    names = {each.pw_name: each for each in pwd.getpwall()}
    user = names.get(_USER) or names["nobody"]
    os.chown(directory, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def _wait(programs: Path, port: int, server: "subprocess.Popen[bytes]") -> None:
    ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    deadline = time.monotonic() + 60.0
    while subprocess.run(ready, check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise Missing("PostgreSQL does not start")
        time.sleep(0.1)
