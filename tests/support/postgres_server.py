"""A real PostgreSQL on a free port of the loopback, to be stopped, killed and restarted at will.

Its data is in a directory of its own below the system's temporary one, because PostgreSQL refuses to run as root: then
it runs as an unprivileged user, who may not enter the directories of pytest. A restart keeps the data.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.ports import free_port
from tests.support.processes import ChildProcess

_USER = "postgres"


def postgres_programs() -> Path | None:
    """The directory of the newest installed version's programs: on the path, or where Debian has them."""
    on_path = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = Path(on_path) if on_path else debian[-1] if debian else None
    return None if found is None else found.resolve().parent


def require_postgres() -> Path:
    """Skips without PostgreSQL; fails instead where CI says that everything must run."""
    programs = postgres_programs()
    if programs is not None:
        return programs
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail("postgresql is not installed, and CI=true allows no skipping")
    pytest.skip("postgresql is not installed")


def execute(sql: str, url: str) -> str:
    """Run SQL as `psql` does; the values of the rows, separated by `|`, one row a line."""
    done = subprocess.run(
        [require_postgres() / "psql", url, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class PostgresServer:
    """Started on construction. Without the programs the test is skipped, whoever asks for a server."""

    def __init__(self, *settings: str) -> None:
        self._programs = require_postgres()
        self.port = free_port()
        self._settings = settings
        self._directory = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        self._as_user = _unprivileged(self._directory)
        data = self._directory / "data"
        try:
            subprocess.run(
                [
                    *(*self._as_user, str(self._programs / "initdb")),
                    *("--pgdata", str(data), "--username", _USER),
                    *("--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
                ],
                cwd=self._directory,
                check=True,
                capture_output=True,
            )
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # It writes nothing down: its data goes with it.
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def execute(self, sql: str, url: str | None = None) -> str:
        """As `execute` of this module, in the database `postgres` if nothing else is said."""
        return execute(sql, url or self.url())

    def stop(self) -> None:
        """As an administrator restarts it: connections end, and what was committed is kept."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def kill(self) -> None:
        """SIGKILL; its other processes notice and end."""
        self._process.kill()

    def start(self) -> None:
        """Start again on the same port, with the same data."""
        # A server that was killed has left these behind.
        with contextlib.suppress(OSError):
            (self._directory / "data" / "postmaster.pid").unlink()
        self._process = self._start()

    def _start(self) -> ChildProcess:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            # No test takes the power away: what the kernel has is kept.
            "fsync": "off",
            # Its workers would look into the database of every test, of which none grows old.
            "autovacuum": "off",
            "max_connections": "200",
            "shared_buffers": "16MB",
        }
        arguments = [f"--{name}={value}" for name, value in settings.items()] + [f"--{each}" for each in self._settings]
        command = [*self._as_user, str(self._programs / "postgres"), "-D", str(self._directory / "data"), *arguments]
        process = ChildProcess("postgres", command, cwd=self._directory)
        process.wait_until(self._answers, "answering")
        return process

    def _answers(self) -> bool:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False, timeout=60).returncode == 0


def _unprivileged(directory: Path) -> list[str]:
    """What the programs are run by. As root that is another user, to whom the directory then belongs."""
    if os.geteuid() != 0:
        return []
    names = {each.pw_name: each for each in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    os.chown(directory, user.pw_uid, user.pw_gid)
    return [
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *("--pdeathsig", "KILL", "--"),
    ]
