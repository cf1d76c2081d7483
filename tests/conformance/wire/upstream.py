"""An upstream that a test programs path by path, and that keeps every request it got, byte for byte.

One thread for each connection, keep-alive, no opinion about what it receives: an answer is the bytes to send once the
whole request is here, or a function that is given the peer as soon as the head is here and does what it likes.
"""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE, eventually

_LINGER_ZERO = struct.pack("ii", 1, 0)


def ok(body: bytes = b"ok\n", *lines: bytes, status: int = 200) -> bytes:
    """A response with Content-Length; `lines` without CRLF."""
    head = [b"HTTP/1.1 %d Programmed" % status, *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@dataclass
class Seen:
    """One request. `body` is decoded; `raw_body` is not. `whole` is false while the body is arriving, or for ever."""

    head: bytes
    connection: int
    body: bytes = b""
    raw_body: bytes = b""
    whole: bool = False

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def path(self) -> str:
        parts = self.line.split(b" ")
        return parts[1].split(b"?")[0].decode("latin-1") if len(parts) > 1 else ""

    @property
    def fields(self) -> list[tuple[str, str]]:
        found = []
        for line in self.head[:-4].split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            found.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return found

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} appears {len(values)} times"
        return values[0] if values else None


class PeerGone(Exception):
    """The gateway ended the connection. `how` is "closed" or "reset"."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Peer:
    """The gateway, at the other end of one connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.socket = sock
        self.number = number
        self.open = True
        self.buffer = b""

    def receive(self) -> bytes:
        """Whatever comes next. PeerGone at the end."""
        try:
            octets = self.socket.recv(262_144)
        except TimeoutError:
            raise PeerGone("timeout") from None
        except OSError:
            raise PeerGone("reset") from None
        if not octets:
            raise PeerGone("closed")
        return octets

    def until(self, mark: bytes) -> bytes:
        while (end := self.buffer.find(mark)) < 0:
            self.buffer += self.receive()
        found, self.buffer = self.buffer[: end + len(mark)], self.buffer[end + len(mark) :]
        return found

    def exactly(self, count: int) -> bytes:
        pieces = [self.buffer]
        have = len(self.buffer)
        while have < count:
            pieces.append(self.receive())
            have += len(pieces[-1])
        octets = b"".join(pieces)
        self.buffer = octets[count:]
        return octets[:count]

    def read_body(self, seen: Seen) -> None:
        """Read the request to its end."""
        length = re.search(rb"(?im)^content-length:[ \t]*([0-9]+)", seen.head)
        if re.search(rb"(?im)^transfer-encoding:[ \t]*chunked", seen.head):
            while True:
                line = self.until(b"\r\n")
                seen.raw_body += line
                size = int(line, 16)
                data = self.exactly(size + 2) if size else self.until(b"\r\n")
                seen.raw_body += data
                seen.body += data[:-2]
                if not size:
                    break
        elif length:
            seen.body = seen.raw_body = self.exactly(int(length[1]))
        seen.whole = True

    def send(self, octets: bytes) -> None:
        try:
            self.socket.sendall(octets)
        except OSError:
            raise PeerGone("reset") from None

    def close(self) -> None:
        self.open = False
        self.socket.close()

    def finish_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.close()

    def wait_for_end(self, timeout: float = PATIENCE) -> str:
        """Read on until the gateway ends the connection: "closed", "reset" or "timeout"."""
        self.socket.settimeout(timeout)
        try:
            while True:
                self.receive()
        except PeerGone as gone:
            self.open = False
            self.socket.close()
            return gone.how


Answer = bytes | Callable[[Peer, Seen], None]


def framed(*pieces: bytes, close: bool = True, reset: bool = False, delay: float = 0.0) -> Callable[[Peer, Seen], None]:
    """Read the request, send these pieces, `delay` apart, and end the connection."""

    def answer(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        for piece in pieces:
            peer.send(piece)
            if delay:
                time.sleep(delay)
        if reset:
            # What was sent goes on its way first: a reset may overtake what the gateway has not read.
            time.sleep(0.3)
            peer.reset()
        elif close:
            peer.close()

    return answer


@dataclass
class _Program:
    answers: tuple[Answer, ...]
    served: int = 0


class ProgrammedUpstream:
    def __init__(self, host: str = "127.0.0.1", wrap: Callable[[socket.socket], socket.socket] | None = None) -> None:
        self._wrap = wrap
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.bind((host, 0))
        self._socket.listen(512)
        self.port: int = self._socket.getsockname()[1]
        self.seen: list[Seen] = []
        self.connections = 0
        self.endings: dict[int, str] = {}
        self._lock = threading.Lock()
        self._programs: dict[str, _Program] = {}
        self._peers: set[socket.socket] = set()
        self._closed = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closed = True
        with self._lock:
            peers = list(self._peers)
        for sock in (self._socket, *peers):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, path: str, *answers: Answer) -> None:
        """Answer requests for this path with these, one after the other; further ones with the last again."""
        self._programs[path] = _Program(answers)

    def requests(self, path: str) -> list[Seen]:
        return [seen for seen in list(self.seen) if seen.path == path]

    def only(self, path: str) -> Seen:
        found = self.requests(path)
        assert len(found) == 1, f"{len(found)} requests for {path}"
        return found[0]

    def wait_for(self, path: str, count: int = 1, timeout: float = PATIENCE) -> list[Seen]:
        eventually(lambda: len(self.requests(path)) >= count, f"{count} requests for {path}", timeout)
        return self.requests(path)

    def _accept(self) -> None:
        while not self._closed:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
                self._peers.add(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        raw = sock
        try:
            sock.settimeout(120.0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._wrap is not None:
                sock = self._wrap(sock)
            peer = Peer(sock, number)
            while peer.open:
                seen = Seen(peer.until(b"\r\n\r\n"), number)
                with self._lock:
                    self.seen.append(seen)
                    answer = self._next_answer(seen.path)
                if callable(answer):
                    answer(peer, seen)
                else:
                    peer.read_body(seen)
                    peer.send(answer)
        except PeerGone as gone:
            self.endings[number] = gone.how
        except (OSError, ValueError) as error:
            self.endings[number] = f"broken: {error}"
        finally:
            with self._lock:
                self._peers.discard(raw)
            sock.close()
            raw.close()

    def _next_answer(self, path: str) -> Answer:
        program = self._programs.get(path)
        if program is None:
            return ok()
        answer = program.answers[min(program.served, len(program.answers) - 1)]
        program.served += 1
        return answer


@dataclass
class Counter:
    """Distinct paths, so that no test sees what another caused."""

    count: int = field(default=0)

    def __call__(self, stem: str = "p") -> str:
        self.count += 1
        return f"/{stem}-{self.count}"


fresh = Counter()
"""A path that no other test uses."""
