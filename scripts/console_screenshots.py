"""The pictures of docs/console.md: a gateway with traffic in each of its states, in a real browser.

    python -m scripts.console_screenshots [--only tripped] [--output docs]

It starts stub upstreams, a gateway with two workers and a load of its own, on free ports of the loopback, brings the
gateway into each state, and takes the picture when the page shows it. It needs chromium, its driver and redis-server,
as the tests do, and Pillow (extra `bench`): pictures get a palette of 256 colours, which keeps each below 150 KB.
"""

import argparse
import asyncio
import contextlib
import json
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import aiohttp
from PIL import Image

from tests.support.browser import Browser, browsing
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
SERVICES = {"orders": 24.0, "catalog": 55.0, "payments": 12.0, "users": 31.0, "search": 18.0, "inventory": 7.0}
"""Requests a second."""
ENV = {
    "WORKERS": "2",
    "GATEWAY_CONFIG": "gateway.yaml",
    "SERVICE_NAME": "edge",
    "RATE_LIMIT_CAPACITY": "2000",
    "RATE_LIMIT_REFILL_RATE": "1000",
}

DRILL = {"FAULTS_ENABLED": "true", "RETRY_MAX_ATTEMPTS": "1", "ADAPTIVE_LIMIT_MODE": "enforce"}


def configuration(ports: list[int]) -> str:
    lines = ["upstreams:"]
    for at, name in enumerate(SERVICES):
        chosen = [ports[(at + step) % len(ports)] for step in range(1 + at % 3)]
        endpoints = ", ".join(f'"127.0.0.1:{port}"' for port in chosen)
        lines.append(f"  {name}: {{endpoints: [{endpoints}], bulkhead: {{limit: 40, max_queue: 4}}}}")
    lines.append("routes:")
    for name in SERVICES:
        more = ", fallback: {upstream: inventory, stale_if_error: 5m}" if name == "payments" else ""
        lines.append(f"  - {{name: {name}, prefix: /{name}, upstream: {name}, strip_prefix: true{more}}}")
    return "\n".join(lines) + "\n"


class Traffic:
    """Requests to every service, at rates that waver a little, in a thread. `paths` may be changed at any time."""

    def __init__(self, port: int) -> None:
        self.paths = {name: ["/slow?seconds=0.004"] * 6 + ["/ok"] * 13 for name in SERVICES}
        self.times = dict.fromkeys(SERVICES, 1.0)
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=400)
        timeout = aiohttp.ClientTimeout(10)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            for name, rate in SERVICES.items():
                group.create_task(self._service(session, name, rate))

    async def _service(self, session: aiohttp.ClientSession, name: str, rate: float) -> None:
        rng = random.Random(name)
        level = 1.0
        waiting: set[asyncio.Task[None]] = set()
        while not self._stop.is_set():
            level = min(1.4, max(0.6, level + rng.uniform(-0.08, 0.08)))
            await asyncio.sleep(rng.expovariate(rate * level * self.times[name]))
            task = asyncio.create_task(self._one(session, name, rng.choice(self.paths[name])))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        for task in waiting:
            task.cancel()

    async def _one(self, session: aiohttp.ClientSession, name: str, path: str) -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"http://127.0.0.1:{self._port}/{name}{path}") as answer:
                await answer.read()


class Scene:
    """One gateway under traffic, and a browser that looks at it."""

    def __init__(self, gateway: GatewayProcess, traffic: Traffic, browser: Browser) -> None:
        self.gateway = gateway
        self.traffic = traffic
        self.browser = browser

    def look(self, seconds: float, view: str = "services") -> None:
        """Open the page and let it see so much of the traffic."""
        time.sleep(seconds)
        self.browser.open(f"{self.gateway.url}/console#{view}")
        self.browser.wait("#top h1", "edge")
        time.sleep(6.0)


@contextlib.contextmanager
def scene(directory: Path, browser: Browser, env: Mapping[str, str]) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        stubs = [stack.enter_context(StubProcess(directory)) for _ in range(3)]
        (directory / "gateway.yaml").write_text(configuration([each.port for each in stubs]))
        gateway = stack.enter_context(GatewayProcess({**ENV, **env}, directory))
        eventually(lambda: gateway.get("/api/resilience/health").json()["status"] == "Healthy", "healthy")
        traffic = Traffic(gateway.port)
        stack.callback(traffic.end)
        yield Scene(gateway, traffic, browser)


def healthy(at: Scene) -> None:
    at.look(70.0)


def dark(at: Scene) -> None:
    at.browser.theme("dark")
    at.look(2.0)
    at.browser.run("location.hash = 'routes'")
    time.sleep(2.0)


def tripped(at: Scene) -> None:
    time.sleep(40.0)
    at.traffic.paths["orders"] = ["/fail"]
    at.browser.open(f"{at.gateway.url}/console")
    at.browser.wait('tr[data-key="row-orders"] .pill', "open")
    at.browser.click('tr[data-key="row-orders"] .unfold')
    time.sleep(5.0)


def shedding(at: Scene) -> None:
    time.sleep(30.0)
    at.traffic.paths["search"] = ["/slow?seconds=1.6"]
    at.traffic.times["search"] = 4.0
    at.browser.open(f"{at.gateway.url}/console")
    script = "return +(document.querySelector('tr[data-key=\"row-search\"]')?.children[10].textContent ?? 0)"
    eventually(lambda: at.browser.run(script) > 1, "shedding", timeout=60)
    time.sleep(5.0)


def phone(at: Scene) -> None:
    at.browser.size(390, 844)
    at.look(1.0)


STATES: Mapping[str, Callable[[Scene], None]] = {
    "healthy": healthy, "dark": dark, "tripped": tripped, "shedding": shedding, "phone": phone,
}  # fmt: skip


def without_redis(directory: Path, browser: Browser, save: Callable[[str], None]) -> None:
    with RedisServer(directory) as redis, scene(directory, browser, {"REDIS_URL": redis.url}) as at:
        at.look(20.0)
        redis.kill()
        browser.wait("#problems", "Redis has been unreachable")
        time.sleep(6.0)
        save("without-redis")


def drill(directory: Path, browser: Browser, save: Callable[[str], None]) -> None:
    token = secrets.token_hex()
    with scene(directory, browser, {**DRILL, "ADMIN_TOKEN": token}) as at:
        time.sleep(30.0)
        asked = {"scope": {"upstream": "payments"}, "kind": "abort", "percent": 30, "duration": 300}
        body = json.dumps({**asked, "reason": "drill 12: payments fail, the fallback answers"}).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "X-Operator": "ann"}
        at.gateway.request("POST", "/api/resilience/faults", body, headers)
        browser.open(f"{at.gateway.url}/console")
        browser.wait(".faults", "payments")
        browser.wait(".notices", "payments")
        browser.click('tr[data-key="row-payments"] .unfold')
        time.sleep(6.0)
        save("drill")


APART: Mapping[str, Callable[[Path, Browser, Callable[[str], None]], None]] = {
    "without-redis": without_redis, "drill": drill,
}  # fmt: skip
"""With gateways of their own."""


def saved(browser: Browser, output: Path, name: str) -> None:
    path = output / f"console-{name}.png"
    browser.driver.save_screenshot(str(path))
    smaller(path)
    print(f"{path} {path.stat().st_size // 1024} KB")
    browser.size(1440, 900)
    browser.theme("light")


def smaller(path: Path) -> None:
    """The same with a palette."""
    image = Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[*STATES, *APART], action="append", help="may be repeated")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="where pictures are written")
    arguments = parser.parse_args()
    wanted = arguments.only or [*STATES, *APART]
    with browsing(1440, 900) as browser, tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        shared = [each for each in STATES if each in wanted]
        if shared:
            with scene(directory, browser, {}) as at:
                for each in shared:
                    STATES[each](at)
                    saved(browser, arguments.output, each)
        for name in APART:
            if name in wanted:
                APART[name](directory, browser, lambda each: saved(browser, arguments.output, each))


if __name__ == "__main__":
    main()
