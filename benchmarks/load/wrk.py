"""wrk on the load core: as many requests as fit through a fixed number of connections (closed loop)."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.host import pinned
from benchmarks.rig import Rig

_RESULT = re.compile(r"^RESULT (.*)$", re.MULTILINE)


class LoadFailed(Exception):
    """The generator brought no result; the message says what it printed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: `scripts` are files beside this one that define parts of a wrk script, with their `arguments`."""

    target: str = "/proxy/ok"
    connections: int = 64
    scripts: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """`failed` requests got no answer, `refused` ones a status from 400 up. Latencies in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    failed: int
    refused: int
    body_bytes: int


def random_clients(count: int, target: str = "/proxy/ok") -> Load:
    return Load(target, scripts=("clients.lua",), arguments=(str(count), "random"))


def each_client(count: int, target: str = "/proxy/ok") -> Load:
    """One request from every client, until the time is over."""
    return Load(target, scripts=("clients.lua",), arguments=(str(count), "each"))


def uploads(size: int) -> Load:
    return Load("/proxy/sink", scripts=("body.lua",), arguments=(str(size),))


def run(rig: Rig, url: str, load: Load, seconds: float) -> Result:
    """Blocks for about `seconds` (whole ones: wrk knows no others). Raises `LoadFailed`."""
    whole = max(1, round(seconds))
    script = rig.directory / f"{'-'.join((*load.scripts, 'done'))}.lua"
    here = Path(__file__).parent
    script.write_text("\n".join((here / name).read_text() for name in (*load.scripts, "done.lua")))
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{whole}s", "--timeout", "5s", "-s", str(script)]
    with pinned(rig.cores.load):
        finished = subprocess.run(
            [*command, url + load.target, "--", *load.arguments],
            capture_output=True,
            text=True,
            timeout=whole + 20,
            check=False,
        )
    return parse(finished.stdout + finished.stderr)


def parse(output: str) -> Result:
    """The line that `done.lua` prints. Raises `LoadFailed` when there is none, or not a single answer."""
    match = _RESULT.search(output)
    if match is None:
        raise LoadFailed(output.strip()[-1000:] or "wrk printed nothing")
    values = dict(pair.split("=") for pair in match[1].split())
    requests = int(values["requests"])
    if not requests:
        raise LoadFailed("no request was answered")
    return Result(
        requests=requests,
        seconds=float(values["seconds"]),
        p50_ms=int(values["p50_us"]) / 1000,
        p90_ms=int(values["p90_us"]) / 1000,
        p99_ms=int(values["p99_us"]) / 1000,
        failed=int(values["failed"]),
        refused=int(values["status"]),
        body_bytes=int(values["bytes"]),
    )
