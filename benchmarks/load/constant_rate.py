"""Requests at a constant rate whatever the answers do (open loop), each timed from when it was due.

    latency(i) = answered(i) - (start + i / rate)

so a stall of the server, or of this program, counts for every request that was due meanwhile (no coordinated omission).
When all connections are busy, what is due waits in line; its time runs.

A program of its own, pinned by whoever starts it: `python -m benchmarks.load.constant_rate PORT TARGET RATE SECONDS
CONNECTIONS` prints one JSON object. Plain sockets and epoll: an event loop's timers are a millisecond wide, which is
the size of what is measured. `select` on the epoll descriptor wakes to the microsecond, but for the kernel's slack.
"""

import gc
import json
import select
import socket
import sys
import time
from collections import deque

_GRACE = 2.0


def measure(port: int, target: str, rate: float, seconds: float, connections: int) -> dict[str, float]:
    """Percentiles in milliseconds over all requests after the first tenth; `late` are those not answered at all."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port), timeout=5.0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        poll.register(sock.fileno(), select.EPOLLIN)
        sockets[sock.fileno()] = sock
    free = deque(sockets.values())
    due: dict[int, float] = {}
    total = int(rate * seconds)
    latencies: list[float] = []
    clock = time.perf_counter
    gc.disable()
    start = clock() + 0.01
    index = answered = refused = 0
    end = start + seconds + _GRACE
    while answered < total:
        now = clock()
        if now > end:
            break
        while free and index < total and (at := start + index / rate) <= now:
            sock = free.popleft()
            due[sock.fileno()] = at
            sock.send(request)
            index += 1
        wait = max(0.0, start + index / rate - now) if free and index < total else 0.01
        if wait:
            select.select([poll], [], [], wait)
        for descriptor, _ in poll.poll(0):
            sock = sockets[descriptor]
            answer = sock.recv(65_536)
            at = due.pop(descriptor, 0.0)
            # Small answers arrive whole; one that does not, or a connection that ends, would spoil every later time.
            if not at or not answer.startswith(b"HTTP/1.1 ") or b"\r\n\r\n" not in answer:
                raise SystemExit(f"an answer that cannot be timed: {answer[:200]!r}")
            if not answer.startswith(b"HTTP/1.1 200"):
                refused += 1
            latencies.append(clock() - at)
            answered += 1
            free.append(sock)
    for sock in sockets.values():
        sock.close()
    kept = sorted(latencies[len(latencies) // 10 :])
    if not kept:
        raise SystemExit("nothing was answered")

    def percentile(share: float) -> float:
        return round(kept[min(len(kept) - 1, int(share * len(kept)))] * 1000, 4)

    return {
        "rate": rate,
        "requests": answered,
        "refused": refused,
        "late": total - answered,
        "p50_ms": percentile(0.5),
        "p90_ms": percentile(0.9),
        "p99_ms": percentile(0.99),
        "p999_ms": percentile(0.999),
    }


if __name__ == "__main__":
    _, port_text, target_text, rate_text, seconds_text, connections_text = sys.argv
    print(
        json.dumps(measure(int(port_text), target_text, float(rate_text), float(seconds_text), int(connections_text)))
    )
