"""What the gateway keeps of connections that have carried something large and are idle now.

    python -m benchmarks.idle_memory                          # 10,000 connections: plain, TLS, each also refused
    python -m benchmarks.idle_memory --count 1000 --only tls
    python -m benchmarks.idle_memory --json

Each connection sends one POST with a head as large as the gateway allows by default (a request line of 8 KB, a header
section of 32 KB, different for each connection) and a body of 256 KiB, reads an answer of 256 KiB, and then says
nothing more; the client never closes it. In the rows "refused" all come from one address, most of them are answered 429
or 404, and their body has 48 KiB, so that the gateway keeps the connection.

Measured is the resident memory of the gateway's process: before, the most there was, and after five
idle seconds. The gateway is a process of its own; client and upstream are in this one. All traffic is on the loopback.
"""

import argparse
import asyncio
import json
import os
import queue
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.children import Child
from benchmarks.host import choose_cores, free_port
from benchmarks.session import MIB

ROWS = ("plain", "plain-refused", "tls", "tls-refused")
BODY = 256 * 1024
# A refused request's body is read to its end only if that saves the connection: up to 64 KiB.
_REFUSED_BODY = 48 * 1024
IDLE_SECONDS = 5.0
AT_ONCE = 64
"""Requests in flight, as far as the client is concerned."""
_TIMEOUT = 30.0
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % BODY + b"a" * BODY


@dataclass(frozen=True, slots=True)
class Row:
    """Sizes in MiB, but for `each_kib`: what one of the connections that were opened costs while all are idle."""

    name: str
    opened: int
    answers: dict[int, int]
    """How many were answered with which status; 0 is for no answer."""
    still_open: int
    before: float
    peak: float
    idle: float
    each_kib: float
    seconds: float


class Upstream(asyncio.Protocol):
    """Reads whole requests with a Content-Length, and answers each with 256 KiB."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._head = b""
        self._left = 0

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            self._left = int(length or 0)
            data = rest
        self._left -= len(data)
        if self._left <= 0:
            self._left = 0
            self._transport.write(_ANSWER)


@contextmanager
def upstream() -> Iterator[int]:
    """Its port. It runs in a thread of its own."""
    started: queue.Queue[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=1024)
        end = asyncio.Event()
        started.put((server.sockets[0].getsockname()[1], loop, end))
        await end.wait()
        server.close()

    thread = threading.Thread(target=lambda: uvloop.run(serve()), name="upstream", daemon=True)
    thread.start()
    port, loop, end = started.get(timeout=10)
    yield port
    loop.call_soon_threadsafe(end.set)
    thread.join(10)


class Client:
    """Opens the connections, several at once, and keeps them."""

    def __init__(self, port: int, *, tls: bool, refused: bool) -> None:
        self._port = port
        self._refused = refused
        self._context: ssl.SSLContext | None = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        self._body = bytes(_REFUSED_BODY if refused else BODY)
        self.sockets: list[socket.socket] = []
        self.answers: dict[int, int] = {}
        self._lock = threading.Lock()

    def open(self, count: int, seconds: float, at_once: int = AT_ONCE) -> None:
        """`count` connections, or as many as there are when the time is over."""
        numbers = iter(range(count))
        end = time.monotonic() + seconds

        def work() -> None:
            while time.monotonic() < end:
                with self._lock:
                    number = next(numbers, None)
                if number is None:
                    return
                self._one(number)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(at_once, count))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def still_open(self) -> int:
        """How many the gateway has not closed."""
        poll = select.poll()
        for sock in self.sockets:
            poll.register(sock, select.POLLIN)
        return len(self.sockets) - len(poll.poll(0))

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()

    def _one(self, number: int) -> None:
        status = 0
        try:
            sock: socket.socket = socket.create_connection(("127.0.0.1", self._port), timeout=_TIMEOUT)
            if self._context is not None:
                sock = self._context.wrap_socket(sock)
        except OSError:
            sock = socket.socket()
        try:
            sock.sendall(head(number, len(self._body), "/nowhere" if self._refused and number % 2 else "/proxy/sink"))
            sock.sendall(self._body)
            status = _answer(sock)
        except OSError:
            pass  # Counted as no answer.
        with self._lock:
            self.sockets.append(sock)
            self.answers[status] = self.answers.get(status, 0) + 1


def head(number: int, length: int, path: str) -> bytes:
    """A request line of nearly 8 KiB and a header section of nearly 32 KiB that no other number has."""
    mark = f"{number:08}"
    line = f"POST {path}?q={mark * 1000} HTTP/1.1\r\n"
    fields = "".join(f"X-Field-{index}: {mark * 490}\r\n" for index in range(8))
    return f"{line}Host: localhost\r\nContent-Length: {length}\r\n{fields}\r\n".encode()


def _answer(sock: socket.socket) -> int:
    """Read one to its end; its status. Raises OSError."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        if not piece:
            raise OSError("no answer")
        data += piece
    found, _, rest = data.partition(b"\r\n\r\n")
    left = int(found.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]) - len(rest)
    while left > 0:
        piece = sock.recv(65_536)
        if not piece:
            raise OSError("half an answer")
        left -= len(piece)
    return int(found[9:12])


def measure(
    name: str, count: int, seconds: float, *, idle_seconds: float = IDLE_SECONDS, at_once: int = AT_ONCE
) -> Row:
    """One row of `ROWS`, with a gateway of its own. Opening takes at most so many `seconds`."""
    tls, refused = name.startswith("tls"), name.endswith("refused")
    with tempfile.TemporaryDirectory() as directory, upstream() as upstream_port:
        port = free_port()
        settings = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}",
            "RATE_LIMIT_ENABLED": "true" if refused else "false",
            **(_certificate(Path(directory)) if tls else {}),
        }
        command = [sys.executable, "-m", "gateway", "run"]
        core = choose_cores().proxy
        with Child("gateway", command, core=core, directory=Path(directory), env=settings, quiet=True) as gateway:
            gateway.wait_listening(port)
            _warm(port, tls=tls)
            before = gateway.resident_bytes() / MIB
            client = Client(port, tls=tls, refused=refused)
            began = time.monotonic()
            client.open(count, seconds, at_once)
            took = time.monotonic() - began
            time.sleep(idle_seconds)
            idle = gateway.resident_bytes() / MIB
            peak = gateway.resident_peak_bytes() / MIB
            still_open = client.still_open()
            opened = len(client.sockets)
            client.close()
    each = (idle - before) * 1024 / max(1, opened)
    answers = dict(sorted(client.answers.items()))
    return Row(name, opened, answers, still_open, before, peak, idle, each, took)


def _warm(port: int, *, tls: bool) -> None:
    """What the first requests bring with them is no connection's."""
    client = Client(port, tls=tls, refused=True)
    client.open(20, 10)
    client.close()
    time.sleep(0.5)


def _certificate(directory: Path) -> dict[str, str]:
    """Settings with a self-signed one."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="connections in a row of the table (10000)")
    parser.add_argument("--seconds", type=float, default=180.0, help="the most that opening them may take (180)")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help=f"requests in flight ({AT_ONCE}, at most 500)")
    parser.add_argument("--only", choices=ROWS, action="append", help="only this row; may be repeated")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    if not arguments.json:
        print(f"{'':14}{'opened':>8}{'open':>8}{'before':>9}{'peak':>9}{'idle':>9}{'each':>11}{'s':>6}  answers")
    for name in arguments.only or ROWS:
        row = measure(name, min(arguments.count, 15_000), arguments.seconds, at_once=min(arguments.at_once, 500))
        rows.append(row)
        if not arguments.json:
            answers = ", ".join(f"{count} x {status or 'none'}" for status, count in row.answers.items())
            print(
                f"{name:14}{row.opened:8}{row.still_open:8}{row.before:5.0f} MiB{row.peak:5.0f} MiB{row.idle:5.0f} MiB"
                f"{row.each_kib:7.1f} KiB{row.seconds:6.0f}  {answers}",
                flush=True,
            )
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
