"""A gateway with several workers under load while they are reloaded, killed, stopped and upgraded.

    python -m benchmarks.soak_workers                   # ten minutes, two workers, the embedded store
    python -m benchmarks.soak_workers --minutes 2 --workers 4

Clients on kept connections, on fresh connections, with POST bodies that must arrive whole, and WebSockets that echo.
Meanwhile, evenly over the time: 20 reloads, 5 workers that are killed (three with SIGKILL, two stopped with SIGSTOP
until the supervisor kills them), and one upgrade. A request counts as lost when its client gets no whole and right
answer; one that was lost while a worker was being killed is told apart from others, of which there must be none.

At the end what the gateway has counted is compared with what the clients got. A worker that is killed takes with it
what it counted since its last report. The exit status is 1 when something is not as it should be. All traffic is on
the loopback; everything ends by itself.
"""

import argparse
import base64
import hashlib
import http.client
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.children import Child
from benchmarks.host import free_port
from benchmarks.rig import program_environment

RELOADS, KILLS, STOPS = 20, 3, 2
STALL = 2.0
_TIMEOUT = 30.0
_AROUND = 1.0
"""Seconds around the death of a worker in which its own requests may be lost."""


@dataclass
class Load:
    """What the clients saw. `lost` has the instants at which, and what."""

    port: int
    over: threading.Event = field(default_factory=threading.Event)
    answered: Counter[str] = field(default_factory=Counter)
    lost: list[tuple[float, str]] = field(default_factory=list)
    closed_in_order: int = 0

    def kept(self) -> None:
        """One request after the other on a connection, until the gateway says that it closes it."""
        while not self.over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
            while not self.over.is_set() and self._asks(connection, "kept", "GET", "/proxy/ok"):
                pass
            connection.close()

    def fresh(self) -> None:
        """Each request on a connection of its own."""
        while not self.over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
            self._asks(connection, "fresh", "GET", "/proxy/ok", headers={"Connection": "close"})
            connection.close()

    def posts(self) -> None:
        """Bodies that have to arrive as they are."""
        number = 0
        while not self.over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
            going = True
            while going and not self.over.is_set():
                number += 1
                going = self._asks(connection, "post", "POST", "/proxy/echo", b"%08d" % number * 512)
            connection.close()

    def sockets(self) -> None:
        """A WebSocket with a message every tenth of a second."""
        while not self.over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT) as sock:
                    self._tunnel(sock)
            except OSError as error:
                self._lose(f"websocket: {error!r}")

    def _asks(
        self,
        connection: http.client.HTTPConnection,
        kind: str,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bool:
        """Whether the connection may be used again."""
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._lose(f"{kind}: {error!r}")
            return False
        if response.status != http.HTTPStatus.OK or (
            body is not None and hashlib.sha256(body).hexdigest().encode() not in answer
        ):
            self._lose(f"{kind}: {response.status} {answer[:80]!r}")
            return False
        self.answered[kind] += 1
        return not response.will_close

    def _tunnel(self, sock: socket.socket) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET /proxy/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += _some(sock)
        if b" 101 " not in head.split(b"\r\n")[0]:
            self._lose(f"websocket: {head[:60]!r}")
            return
        frames = _Frames(sock, head.partition(b"\r\n\r\n")[2])
        while not self.over.is_set():
            # A text frame, masked with zeros (RFC 6455 section 5.2).
            sock.sendall(b"\x81\x85\0\0\0\0hello")
            opcode, payload = frames.next()
            if opcode == 8:
                self.closed_in_order += 1
                return
            if payload != b"hello":
                self._lose(f"websocket: {payload[:40]!r}")
                return
            self.answered["websocket"] += 1
            self.over.wait(0.1)

    def _lose(self, what: str) -> None:
        if not self.over.is_set():
            self.lost.append((time.monotonic(), what))


class _Frames:
    """The frames of a server, which are not masked and short here."""

    def __init__(self, sock: socket.socket, received: bytes) -> None:
        self._sock = sock
        self._received = received

    def next(self) -> tuple[int, bytes]:
        while len(self._received) < 2 or len(self._received) < 2 + (self._received[1] & 0x7F):
            self._received += _some(self._sock)
        opcode, length = self._received[0] & 0x0F, self._received[1] & 0x7F
        payload, self._received = self._received[2 : 2 + length], self._received[2 + length :]
        return opcode, payload


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(4096)
    if not data:
        raise ConnectionError("closed without a Close frame")
    return data


class Service:
    """The gateway, and what is done to it."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self.port = port
        self.began = time.monotonic()
        self.deaths: list[tuple[float, float]] = []
        """From when to when a worker was dying."""

    def ask(self, target: str) -> bytes:
        """The body of a GET to the control plane."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
        connection.request("GET", target)
        body = connection.getresponse().read()
        connection.close()
        return body

    def workers(self) -> dict[str, object]:
        """The table of workers."""
        found: dict[str, object] = json.loads(self.ask("/api/resilience/workers"))
        return found

    def ready(self) -> list[int]:
        """The pids of the workers that serve."""
        workers = self.workers()["workers"]
        assert isinstance(workers, list)  # noqa: S101 - the shape of the answer
        return [each["pid"] for each in workers if each["state"] == "ready"]

    def kill(self) -> None:
        """SIGKILL to one worker."""
        now = time.monotonic()
        os.kill(min(self.ready()), signal.SIGKILL)
        self.deaths.append((now - _AROUND, now + _AROUND))

    def stop(self) -> None:
        """SIGSTOP to one worker: the supervisor kills it."""
        now = time.monotonic()
        os.kill(min(self.ready()), signal.SIGSTOP)
        self.deaths.append((now - _AROUND, now + STALL + 5.0 + _AROUND))

    def reload(self) -> None:
        """SIGHUP to the supervisor."""
        os.kill(self.child.pid, signal.SIGHUP)

    def upgrade(self) -> None:
        """SIGUSR2 to the supervisor."""
        os.kill(self.child.pid, signal.SIGUSR2)

    def counted(self) -> dict[str, int]:
        """Answers of the route by status, as the gateway counts them."""
        counts: Counter[str] = Counter()
        for line in self.ask("/metrics").decode().splitlines():
            if line.startswith("http_requests_total{") and 'route="proxy"' in line:
                status = line.partition('status="')[2].partition('"')[0]
                counts[status] += int(float(line.rpartition(" ")[2]))
        return dict(counts)


def plan(service: Service, minutes: float) -> list[tuple[float, Callable[[], None]]]:
    """What is done when, in seconds from the start. The two ends of the time stay quiet."""
    acts: list[Callable[[], None]] = [service.reload] * RELOADS
    for at, act in (
        (4, service.kill),
        (9, service.stop),
        (13, service.upgrade),
        (15, service.kill),
        (18, service.stop),
    ):
        acts.insert(at, act)
    acts.append(service.kill)
    seconds = minutes * 60
    return [(seconds * (at + 1) / (len(acts) + 2), act) for at, act in enumerate(acts)]


def run(minutes: float, workers: int, clients: int) -> int:
    """Do it, and print what was seen. Returns the exit status."""
    with tempfile.TemporaryDirectory() as directory:
        upstream_port, port = free_port(), free_port()
        environment = program_environment(PORT=str(upstream_port), HOST="127.0.0.1")
        stub = [sys.executable, "-m", "upstream_stub"]
        program = [sys.executable, "-m", "gateway", "run"]
        with Child("stub", stub, core=None, directory=Path(directory), env=environment) as upstream:
            upstream.wait_listening(upstream_port)
            environment = program_environment(
                PORT=str(port),
                UPSTREAM_URL=f"http://127.0.0.1:{upstream_port}",
                WORKERS=str(workers),
                WORKER_STALL_SECONDS=str(STALL),
                TUNNEL_DRAIN_SECONDS="2",
                RATE_LIMIT_ENABLED="false",
                ACCESS_LOG="false",
            )
            with Child("gateway", program, core=None, directory=Path(directory), env=environment) as child:
                child.wait_listening(port)
                service = Service(child, port)
                child.wait_until(lambda: len(service.ready()) == workers, 60.0)
                return _soak(service, Load(port), minutes, clients)


def _soak(service: Service, load: Load, minutes: float, clients: int) -> int:
    threads = [
        threading.Thread(target=kind)
        for kind in (load.kept, load.fresh, load.posts, load.sockets)
        for _ in range(clients)
    ]
    began = service.began = time.monotonic()
    for thread in threads:
        thread.start()
    for due, act in plan(service, minutes):
        time.sleep(max(0.0, began + due - time.monotonic()))
        print(f"{time.monotonic() - began:6.1f} s  {act.__name__}", flush=True)
        act()
    time.sleep(max(0.0, began + minutes * 60 - time.monotonic()))
    load.over.set()
    for thread in threads:
        thread.join(_TIMEOUT)
    # On a busy machine the last one that was killed is replaced only now, and the last reload may still go on.
    service.child.wait_until(lambda: len(service.ready()) == service.workers()["wanted"], 60.0)
    time.sleep(2.0)
    return _report(service, load, clients)


def _report(service: Service, load: Load, clients: int) -> int:
    inside = [what for at, what in load.lost if any(first <= at <= last for first, last in service.deaths)]
    outside = [(at, what) for at, what in load.lost if not any(first <= at <= last for first, last in service.deaths)]
    found = service.workers()
    answered = sum(count for kind, count in load.answered.items() if kind != "websocket")
    counted = service.counted()
    print(f"answered: {dict(load.answered)}; WebSockets closed in order: {load.closed_in_order}")
    print(f"lost with a killed worker: {len(inside)} (at most {4 * clients} a death), otherwise: {len(outside)}")
    for at, what in outside[:10]:
        print(f"  {at - service.began:6.1f} s  {what}")
    print(f"workers: {found['ready']} of {found['wanted']} ready; replaced: {found['restarts']}")
    missing = answered - counted.get("200", 0)
    print(f"answers of 200 that the clients have: {answered}; that the gateway has counted: {counted.get('200', 0)}")
    print(
        f"difference: {missing} ({missing / max(1, answered):.4%}), what {len(service.deaths)} dead workers took along"
    )
    well = not outside and found["ready"] == found["wanted"] and len(inside) <= 4 * clients * len(service.deaths)
    print("well" if well else "NOT WELL")
    return 0 if well else 1


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=2, help="of each of the four kinds")
    arguments = parser.parse_args()
    return run(arguments.minutes, arguments.workers, arguments.clients)


if __name__ == "__main__":
    sys.exit(main())
