"""The five processes of the shop: how each is started, asked for its health, stopped and killed.

`python -m shop` runs them for a person, and the drills run them to break them. Every process has a process group of its
own, so that Ctrl-C in a terminal reaches only whoever has started them, and on Linux none outlives it.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import aiohttp

PACKAGE: Final = Path(__file__).resolve().parent
CHECKOUT: Final = PACKAGE.parents[1]
SERVICES: Final = ("payments", "inventory", "notifications", "orders")
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
POLL_SECONDS: Final = 0.05


class Failure(Exception):
    """What went wrong, for the user."""


@dataclass(frozen=True)
class Ports:
    """Where each of them listens, on the loopback."""

    gateway: int = 8000
    orders: int = 8001
    payments: int = 8002
    inventory: int = 8003
    notifications: int = 8004

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Five in a row."""
        return cls(*range(base, base + 5))

    @classmethod
    def free(cls) -> "Ports":
        """Five that nobody has, below those that the kernel gives to outgoing connections: a service that is killed
        finds its port free when it starts again."""
        found: list[int] = []
        for port in random.sample(range(20_000, 30_000), 1000):
            if is_free(port):
                found.append(port)
            if len(found) == 5:
                return cls(*found)
        raise Failure("no five ports are free")


def is_free(port: int) -> bool:
    """Whether a server could listen on it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Process:
    """A program that serves HTTP. It can be started again after it has ended."""

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], port: int, output: Path | None
    ) -> None:
        """Its output goes to that of this program, or to the end of the file `output`. What is changed in `environment`
        counts from the next start on."""
        self.name = name
        self.port = port
        self._command = command
        self.environment = dict(environment)
        self._output = output
        self._running: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        if self._running is None:
            raise Failure(f"{self.name} was not started")
        return self._running.pid

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._running is not None and self._running.returncode is None

    async def start(self) -> None:
        """Returns at once; `wait_ready` waits."""
        # Should this program be killed, the kernel ends the process; elsewhere than on Linux it would stay.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        file: IO[bytes] | None = None if self._output is None else self._output.open("ab")
        self._running = await asyncio.create_subprocess_exec(
            *guard,
            *self._command,
            cwd=CHECKOUT,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        if file is not None:
            file.close()

    async def wait_ready(self) -> None:
        """Until /health answers 200; `Failure` if the process ends before, or it takes too long."""
        try:
            async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
                while not await self._is_ready(session):
                    if not self.runs:
                        raise Failure(f"{self.name} {self.ending()} before it answered{self._last_words()}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise Failure(f"{self.name} did not answer within {START_SECONDS:g} s{self._last_words()}") from None

    async def wait(self) -> None:
        """Until it has ended."""
        if self._running is not None:
            await self._running.wait()

    def send(self, number: signal.Signals) -> None:
        """A signal to it and to all that it has started."""
        if self._running is not None and self.runs:
            os.killpg(self._running.pid, number)

    async def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is said."""
        self.send(signal.SIGKILL)
        await self.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay, and nothing is answered."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self.send(signal.SIGCONT)

    async def stop(self) -> bool:
        """SIGTERM, and SIGKILL if that does not end it in time; whether it did."""
        if self._running is None or not self.runs:
            return True
        self.resume()
        self._running.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.wait()
        except TimeoutError:
            await self.kill()
            return False
        return True

    def ending(self) -> str:
        """How it ended, in words."""
        status = None if self._running is None else self._running.returncode
        if status is None:
            return "runs"
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"http://127.0.0.1:{self.port}/health") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError):
            return False

    def _last_words(self) -> str:
        if self._output is None or not self._output.exists():
            return ""
        lines = self._output.read_text(errors="replace").splitlines()[-15:]
        return "".join(f"\n    {line}" for line in lines)


class Shop:
    """All five, by name in `processes`, in the order in which they are started. `urls` has the database of each
    service."""

    def __init__(self, ports: Ports, data: Path, environment: Mapping[str, str], logs: Path | None = None) -> None:
        """`data` is the directory of the databases where `environment` names no other ones; `logs` is that of the
        output of each process, None for the terminal."""
        self.ports = ports
        self.data = data
        self._environment = {
            **environment,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE.parent), environment.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "HOST": "127.0.0.1",
        }
        self.urls = {
            name: environment.get(f"{name.upper()}_DATABASE_URL") or f"sqlite:///{data / name}.db" for name in SERVICES
        }
        self.processes = {
            name: self.service(name, getattr(ports, name), None if logs is None else logs / f"{name}.log")
            for name in SERVICES
        }
        self.processes["gateway"] = self._gateway(None if logs is None else logs / "gateway.log")

    def service(self, name: str, port: int, output: Path | None) -> Process:
        """A process of a service, on its database."""
        own = {
            **self._environment,
            "PORT": str(port),
            "DATABASE_URL": self.urls[name],
            "GATEWAY_URL": f"http://127.0.0.1:{self.ports.gateway}",
        }
        return Process(name, [sys.executable, "-P", "-m", f"shop.{name}"], own, port, output)

    def _gateway(self, output: Path | None) -> Process:
        own = {
            **self._environment,
            **{name.upper(): f"127.0.0.1:{getattr(self.ports, name)}" for name in SERVICES},
            "PORT": str(self.ports.gateway),
            "GATEWAY_CONFIG": str(PACKAGE / "gateway.yaml"),
            "JOURNAL_URL": self._environment.get("JOURNAL_URL") or f"sqlite:///{self.data / 'gateway.db'}",
        }
        command = [sys.executable, "-P", "-m", "gateway", "run", "--env-file", str(PACKAGE / "gateway.env")]
        return Process("gateway", command, own, self.ports.gateway, output)

    async def start(self) -> None:
        """Start all of them and wait until all are healthy; `Failure` otherwise."""
        for process in self.processes.values():
            if not is_free(process.port):
                raise Failure(f"{process.name} cannot have port {process.port}: somebody listens there")
        for process in self.processes.values():
            await process.start()
        await asyncio.gather(*(process.wait_ready() for process in self.processes.values()))

    async def stop(self) -> list[str]:
        """Stop all of them, the gateway first; the names of those that had to be killed."""
        return [process.name for process in reversed(self.processes.values()) if not await process.stop()]
