"""Refusing at full speed, beside forwarding: out of tokens (429), circuit open (503), over the in-flight cap (429)."""

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.host import free_port
from benchmarks.load.wrk import Load
from benchmarks.observations import CPU, VS_FORWARDING, Observations
from benchmarks.peers import INTERPRETED, Proxy, gateway
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_TRIPPING_CALLS = 8
_HELD_BYTES = 1_000_000


def _run(session: Session, observations: Observations) -> None:
    for interpreted in (False, True):
        if not interpreted or INTERPRETED.name not in session.absent:
            _side_by_side(session, observations, interpreted=interpreted)


def _side_by_side(session: Session, observations: Observations, *, interpreted: bool) -> None:
    nobody = free_port()
    suffix = "-interpreted" if interpreted else ""
    variants: dict[str, dict[str, str]] = {
        "forwarding": {},
        "429": {"RATE_LIMIT_CAPACITY": "1", "RATE_LIMIT_REFILL_RATE": "0.001"},
        "circuit": {
            "UPSTREAM_URL": f"http://127.0.0.1:{nobody}",
            "RETRY_MAX_ATTEMPTS": "1",
            "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "3600",
        },
        "shed": {"MAX_INFLIGHT": "1", "CLIENT_IDLE_TIMEOUT_SECONDS": "3600"},
    }
    peers = [gateway(f"gateway-{name}{suffix}", env, interpreted=interpreted) for name, env in variants.items()]
    with ExitStack() as stack:
        forwards, limits, breaks, sheds = proxies = session.start(peers, stack)
        _trip(breaks)
        cases = {forwards: "forwarded", limits: "429 rate limited", breaks: "503 circuit open", sheds: "429 shed"}
        for round_number in session.rounds(min(3, session.plan.rounds)):
            for proxy in proxies:
                with _place_held(proxy) if proxy is sheds else contextlib.nullcontext():
                    result = session.measure(observations, cases[proxy], proxy, round_number, Load())
                if result is not None and proxy is not forwards and result.refused < 0.99 * result.requests:
                    session.note(f"refusals: {proxy.name} refused only {result.refused} of {result.requests}")
    observations.relate(CPU, VS_FORWARDING, (cases[forwards], forwards.name), peers=[proxy.name for proxy in proxies])


def _trip(proxy: Proxy) -> None:
    for _ in range(_TRIPPING_CALLS):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{proxy.url}/proxy/ok", timeout=5.0).close()  # noqa: S310 - http, ours


@contextlib.contextmanager
def _place_held(proxy: Proxy) -> Iterator[None]:
    """The only place in flight is taken by a request whose body never comes to an end."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5.0) as sock:
        sock.sendall(f"POST /proxy/sink HTTP/1.1\r\nHost: bench\r\nContent-Length: {_HELD_BYTES}\r\n\r\nx".encode())
        yield


REFUSALS = Workload("refusals", "refusing at full speed: how much cheaper than forwarding is it?", _run)
