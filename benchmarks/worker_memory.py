"""What one idle worker takes of memory, alone, by the number of routes.

    python -m benchmarks.worker_memory                  # 1 route, and 1,000 with 50 upstreams
    python -m benchmarks.worker_memory --routes 5000 --upstreams 100

Two workers are started, because the pages that processes share count for each of them in its resident set (VmRSS), and
only once in all proportional ones (PSS). The numbers are those of one worker, from /proc/PID/status and
/proc/PID/smaps_rollup, two seconds after it serves. Nothing is sent to it but one request for each route that it has,
with `--asked`: what a route makes when it is first used counts then, too.
"""

import argparse
import os
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.children import Child
from benchmarks.host import free_port

_SETTLED = 2.0


def measure(routes: int, upstreams: int, *, asked: bool = False) -> dict[str, int]:
    """KiB of one worker, and of the supervisor: `worker_rss`, `worker_pss`, `supervisor_rss`, `supervisor_pss`."""
    with tempfile.TemporaryDirectory() as directory:
        port, dead = free_port(), free_port()
        lines = ["upstreams:", *(f"  u{each}: {{endpoints: ['127.0.0.1:{dead}']}}" for each in range(upstreams))]
        lines += [
            "routes:",
            *(f"  - {{name: r{n}, prefix: /r{n}/, upstream: u{n % upstreams}}}" for n in range(routes)),
        ]
        Path(directory, "gateway.yaml").write_text("\n".join(lines), encoding="utf-8")
        settings = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "WORKERS": "2",
            "GATEWAY_CONFIG": "gateway.yaml",
        }
        command = [sys.executable, "-m", "gateway", "run"]
        with Child("gateway", command, core=None, directory=Path(directory), env=settings, quiet=True) as gateway:
            gateway.wait_listening(port)
            if asked:
                for route in range(routes):
                    _ask(port, f"/r{route}/x")
            time.sleep(_SETTLED)
            workers = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
            found = {}
            for name, pid in (("worker", int(workers[0])), ("supervisor", gateway.pid)):
                found[f"{name}_rss"] = _kib(pid, "status", "VmRSS:")
                found[f"{name}_pss"] = _kib(pid, "smaps_rollup", "Pss:")
            return found


def _ask(port: int, path: str) -> None:
    """Nobody listens at the upstreams: the answer is a refusal."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5.0)
    connection.request("GET", path)
    connection.getresponse().read()
    connection.close()


def _kib(pid: int, file: str, name: str) -> int:
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routes", type=int, default=1000)
    parser.add_argument("--upstreams", type=int, default=50)
    parser.add_argument("--asked", action="store_true", help="ask each route once before")
    arguments = parser.parse_args()
    print(f"{'routes':>8}{'upstreams':>11}{'worker: VmRSS':>15}{'PSS':>10}{'supervisor: VmRSS':>20}{'PSS':>10}")
    for routes, upstreams in ((1, 1), (arguments.routes, arguments.upstreams)):
        found = measure(routes, upstreams, asked=arguments.asked)
        sizes = [f"{kib / 1024:.1f} MiB" for kib in found.values()]
        print(f"{routes:8}{upstreams:11}{sizes[0]:>15}{sizes[1]:>10}{sizes[2]:>20}{sizes[3]:>10}", flush=True)


if __name__ == "__main__":
    main()
