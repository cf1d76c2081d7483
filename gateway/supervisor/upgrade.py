"""The supervisor's new code in place of the old, in the same process: what is carried over an exec, and how.

Pid, listening sockets, workers and their channels stay. What is in memory (the table of workers, the store, the sums)
goes through a file without a name, as plain data. The new code understands it or, where it was written in another
`FORMAT`, refuses before the exec: `problem_of_new_code` runs the new code beside the old to ask.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from gateway.ipc.channel import Serve
from gateway.supervisor.changes import Changes
from gateway.supervisor.crew import Crew
from gateway.supervisor.process import WorkerProcess, interpreter
from gateway.supervisor.sockets import Sockets

FORMAT: Final = 1
VARIABLE: Final = "GATEWAY_UPGRADE_FD"
HELD_BACK: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
)
"""Signals that must not hit the process between the exec and the new code's handlers."""

_TRY: Final = 20.0
_DETACH: Final = 1.0


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes over the exec, as plain data."""

    format: int
    generation_number: int
    generation: dict[str, Any]
    serial: int
    one_service: dict[str, Any]
    sockets: dict[str, Any]
    workers: list[dict[str, Any]]
    store: Any = None
    """See `gateway.store.memory.dump`."""


async def problem_of_new_code() -> str | None:
    """Whether this interpreter can run the supervisor's code as it is on disk now, and whether that code understands
    what would be carried over. None: all well."""
    code = "from gateway.supervisor import supervisor, upgrade; print(upgrade.FORMAT)"
    try:
        process = await asyncio.create_subprocess_exec(
            *(*interpreter(), "-c", code),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        return f"the new code of the supervisor cannot be tried: {error.strerror or error}"
    try:
        async with asyncio.timeout(_TRY):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        return "the new code of the supervisor does not start"
    if process.returncode:
        last = (err.decode("utf-8", "replace").strip().splitlines() or ["it says nothing"])[-1]
        return f"the new code of the supervisor does not start: {last}"
    if out.decode().strip() != str(FORMAT):
        return "the new code of the supervisor cannot take over from this one: restart the service"
    return None


async def carried(
    crew: Crew,
    changes: Changes,
    sockets: Sockets,
    one_service: Callable[[], dict[str, Any]],
    store: Callable[[], Any],
) -> Carried:
    """Everything, ready for the exec. The channels of the workers stand still from now on. `one_service` and `store`
    are called after that, so what they return has everything that the workers have told, and nothing changes it any
    more."""
    generation = crew.generation
    assert generation is not None  # noqa: S101 - an upgrade is refused before
    await crew.hand_over()
    received = {each: await _stand_still(each) for each in crew.everybody}
    # Once more, for those that have died meanwhile. Who dies from here on is noticed by the new code.
    await crew.hand_over()
    workers = [_worker(each, received[each]) for each in crew.everybody]
    return Carried(
        FORMAT,
        changes.generations,
        generation.dump(),
        crew.serial,
        one_service(),
        sockets.dump(),
        workers,
        store(),
    )


async def _stand_still(worker: WorkerProcess) -> tuple[bytes, bytes]:
    """What was received of frames that are not complete, on both channels."""
    return await worker.control.detach(_DETACH), await worker.store.detach(_DETACH)


def _worker(worker: WorkerProcess, received: tuple[bytes, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: getattr(worker, name)
        for name in ("slot", "pid", "replica", "generation", "state", "started_at", "leaves_for", "stacks")
    }
    found["closed"] = sorted(worker.closed)
    found["drain_until"] = None if worker.drain_until == float("inf") else worker.drain_until
    os.set_inheritable(worker.stacks, True)
    worker.gift.set_inheritable(True)
    found["gift"] = worker.gift.fileno()
    channels = (("control", worker.control), ("store", worker.store))
    for (name, channel), begun in zip(channels, received, strict=True):
        fd = channel.fileno()
        os.set_inheritable(fd, True)
        found[name] = [fd, begun.hex()]
    return found


async def adopted(dumped: Mapping[str, Any], crew: Crew, store_for: Callable[[str], Serve]) -> WorkerProcess:
    """A worker that was started before the exec."""
    gift = socket.socket(fileno=dumped["gift"])
    os.set_inheritable(dumped["stacks"], False)
    gift.set_inheritable(False)
    worker = WorkerProcess(dumped["slot"], dumped["pid"], dumped["replica"], gift, dumped["stacks"])
    worker.generation = dumped["generation"]
    worker.state = dumped["state"]
    worker.started_at = dumped["started_at"]
    worker.drain_until = float("inf") if dumped["drain_until"] is None else dumped["drain_until"]
    worker.leaves_for = dumped["leaves_for"]
    worker.closed = set(dumped["closed"])
    worker.heard_at = time.monotonic()
    (control, begun), (store, store_begun) = _channel(dumped["control"]), _channel(dumped["store"])
    await worker.connect(control, store, crew.serve_for(worker), store_for(worker.replica), (begun, store_begun))
    return worker


def _channel(dumped: list[Any]) -> tuple[socket.socket, bytes]:
    """Its socket, and what was received of a frame that is not complete."""
    fd, received = dumped
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    return sock, bytes.fromhex(received)


def execute(what: Carried, file: int, variables: Mapping[str, str], given: list[str | None]) -> None:
    """Become the new code. What is carried goes through `file`, an empty one without a name. Does not return. Where it
    cannot be, the process ends: its channels stand still, and signals are held back. The workers notice, finish what
    they have, and end."""
    environ = {**os.environ, **variables, VARIABLE: str(file)}
    arguments = [
        option
        for name, value in zip(("--env-file", "--config"), given, strict=True)
        if value is not None
        for option in (name, value)
    ]
    try:
        with os.fdopen(os.dup(file), "wb") as writer:
            writer.write(json.dumps(asdict(what)).encode())
        os.lseek(file, 0, os.SEEK_SET)
        os.set_inheritable(file, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        os.execve(sys.executable, [*interpreter(), "-m", "gateway", "run", *arguments], environ)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"gateway: the new code of the supervisor cannot be executed: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(1)


def received(environ: MutableMapping[str, str]) -> Carried | None:
    """What was carried over the exec, None for an ordinary start."""
    text = environ.pop(VARIABLE, "")
    if not text:
        return None
    with os.fdopen(int(text), "rb") as file:
        return Carried(**json.loads(file.read()))
