"""Run the stub upstream and the gateway side by side until Ctrl-C: `make run`.

Both are children in process groups of their own, so that Ctrl-C in the terminal reaches only this program, which then
stops the gateway before its upstream. Exit status 0 after SIGINT, SIGTERM or SIGHUP when both ended cleanly; 1 when a
port is taken, a child dies or does not answer; then the other one is stopped too. A second signal ends both at once.

The gateway is configured by the environment and `.env`, as ever; only `UPSTREAM_URL` is supplied: when neither has it,
when `STUB_PORT` is set in the environment, which asks for the stub, and when it is the one of `.env.example`. With
another one the stub is not started, and the hints do not speak of it. `STUB_PORT` moves the stub. Where nobody says
how many workers there are to be, there are two, or one where only one core may be used. What is supplied is in the
gateway's environment, where it wins over a `.env` that is edited later: the hint about reloads names these variables.
An empty variable counts as not set, as it does for the gateway. Beside the standard library only
`gateway.system.cores`. No restarts: this is for trying things out.
"""

import contextlib
import http.client
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.system.cores import usable_cores

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 60.0
# The gateway has a deadline of its own for exchanges in flight. This one is for when it hangs.
STOP_TIMEOUT = 120.0
# make passes SIGTERM on, and so do terminals and `timeout` to the whole group: copies of one signal, not a second one.
ONE_SIGNAL = 1.0
# A .env made from the template means the stub, wherever STUB_PORT moves it.
STUB_OF_THE_EXAMPLE = "http://127.0.0.1:5001"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failure(Exception):
    """What went wrong, for the user."""


@dataclass
class Child:
    """A program that serves HTTP on a port of the loopback."""

    name: str
    port: int
    health: str
    popen: subprocess.Popen[bytes]

    def died(self) -> str | None:
        """How it ended, None while it runs."""
        status = self.popen.poll()
        if status is None:
            return None
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def answers(self) -> bool:
        """Whether there is a server: any answer counts, and so does one that wants TLS."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.connect()
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", self.health)
                connection.getresponse()
        except OSError:
            return False
        finally:
            connection.close()
        return True


class Signals:
    """Counts the signals to stop, and wakes `wait` on those and on the end of a child."""

    def __init__(self) -> None:
        self.stops = 0
        self._last_stop = -ONE_SIGNAL
        self._readable, writable = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(writable, False)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def wait(self, timeout: float | None = None) -> None:
        """Until something happened, or `timeout`."""
        readable, _, _ = select.select([self._readable], [], [], timeout)
        if readable:
            os.read(self._readable, 4096)

    def _stop(self, *_: object) -> None:
        now = time.monotonic()
        if now - self._last_stop >= ONE_SIGNAL:
            self.stops += 1
            self._last_stop = now


def variables_in(path: Path) -> dict[str, str]:
    """The assignments of a `.env` file, enough of its syntax to find a port and to see what is set."""
    found = {}
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = value.partition(" #")[0].strip().strip("'\"")
    return found


def port_from(variables: Mapping[str, str], name: str, default: int) -> int:
    text = variables.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise Failure(f"{name} must be a whole number from 1 to 65535, not {text!r}")
    return int(text)


def require_free(name: str, port: int, variable: str) -> None:
    with socket.socket() as probe:
        # As servers do: connections of an earlier run that linger in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            cause = os.strerror(error.errno or 0).lower()
            other = port + (1000 if port < 64_000 else -1000)
            problem = f"the {name} cannot have port {port}: {cause}. Try another one: make run {variable}={other}"
            raise Failure(problem) from None


def start(name: str, module: list[str], port: int, health: str, environment: Mapping[str, str]) -> Child:
    # Should this program be killed, the kernel ends the children; elsewhere than on Linux they would stay.
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    # -P: what is installed runs, as `make build` or the editable install made it, not what stands in this directory.
    command = [*guard, sys.executable, "-P", "-m", *module]
    popen = subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, start_new_session=True)
    return Child(name, port, health, popen)


def wait_until_ready(children: list[Child], signals: Signals) -> None:
    """Returns when all answer, or on a signal."""
    deadline = time.monotonic() + START_TIMEOUT
    waiting = list(children)
    while waiting and not signals.stops:
        fail_if_dead(children)
        waiting = [child for child in waiting if not child.answers()]
        if waiting and time.monotonic() > deadline:
            names = " and ".join(f"the {child.name}" for child in waiting)
            raise Failure(f"{names} did not answer within {START_TIMEOUT:g} seconds")
        if waiting:
            signals.wait(0.05)


def fail_if_dead(children: list[Child]) -> None:
    for child in children:
        if ending := child.died():
            raise Failure(f"the {child.name} {ending}")


def stop(child: Child, signals: Signals) -> str | None:
    """Ask it to end; after a while, or on one more signal to us, kill it. What was wrong with its end, if anything."""
    deadline = time.monotonic() + STOP_TIMEOUT
    if child.died() is None:
        child.popen.send_signal(signal.SIGTERM)
    while (ending := child.died()) is None:
        if signals.stops > 1 or time.monotonic() > deadline:
            # With its workers: they would finish what they have before they notice.
            os.killpg(child.popen.pid, signal.SIGKILL)
            child.popen.wait()
            return f"the {child.name} was killed: it had not ended"
        signals.wait(0.2)
    return None if child.popen.returncode == 0 else f"the {child.name} {ending}"


def workers_for(variables: Mapping[str, str]) -> int | None:
    """How many workers the gateway is to have: two where there are two cores, so that what several share can be seen.
    None where `variables` say it already."""
    if variables.get("WORKERS"):
        return None
    return min(2, usable_cores())


def processes(workers: str) -> str:
    """`workers`, a number or auto, in the words of the welcome."""
    if workers.strip().lower() == "auto":
        return "a worker process for each core"
    return f"{workers} worker process{'es' * (workers != '1')}"


def welcome(
    gateway: Child, stub: Child | None, upstream: str, variables: Mapping[str, str], fixed: Sequence[str]
) -> str:
    """What to try. With TLS any certificate is taken: those for trying things out are signed by nobody. `variables`
    are all settings, those supplied here included; `fixed` are those that a reload does not read in `.env`."""
    tls = bool(variables.get("TLS_CERT_FILE"))
    url = f"http{'s' * tls}://localhost:{gateway.port}"
    curl = "curl -k" if tls else "curl"
    trusting = " --insecure" if tls else ""
    hints = []
    if stub is None:
        behind = f"in front of {upstream}"
        hints.append((f"{curl} -i {url}/proxy/", "proxied, with the rate limit in its headers"))
    else:
        behind = f"in front of the stub upstream on http://localhost:{stub.port}"
        hints += [
            (f"{curl} -i {url}/proxy/ok", "proxied, with the rate limit in its headers"),
            (f"{curl} -i '{url}/proxy/echo?x=%2F..%2f&y=1+2'", "what the upstream gets, byte for byte"),
            (
                f"for i in $(seq 30); do {curl} -s -o /dev/null -w '%{{http_code}} ' {url}/proxy/fail; done",
                "500 each time, then the circuit opens: 503",
            ),
        ]
    hints += [
        (f"{curl} -s {url}/status/breakers", "the circuits"),
        (f"{curl} -s {url}/health", "the gateway's own view of things"),
        (f"GATEWAY_URL={url} .venv/bin/gateway status{trusting}", "the worker processes, the upstreams"),
        (
            f"GATEWAY_URL={url} .venv/bin/gateway reload{trusting}",
            f"after a change in .env: new workers, no request lost; at the next `make run` only: {', '.join(fixed)}",
        ),
    ]
    lines = [f"  {command}\n      {meaning}" for command, meaning in hints]
    workers = f"{processes(variables['WORKERS'])} (WORKERS changes that)"
    return "\n".join([f"\ngateway on {url} with {workers}, {behind}; stop with Ctrl-C. Try:\n", *lines, ""])


def upstream_of(given: Mapping[str, str], variables: Mapping[str, str]) -> str | None:
    """The upstream that somebody asked for, None where it is the stub's job. `given` is what is set in the environment,
    `variables` that and `.env`."""
    if "UPSTREAM_URL" in given:
        return given["UPSTREAM_URL"]
    upstream = variables.get("UPSTREAM_URL")
    return None if "STUB_PORT" in given or not upstream or upstream == STUB_OF_THE_EXAMPLE else upstream


def serve(signals: Signals, children: list[Child]) -> None:
    """Start them and stay until a signal; whatever is appended to `children` is the caller's to stop."""
    given = {name: value for name, value in os.environ.items() if value.strip()}
    variables = {**variables_in(ROOT / ".env"), **given}
    gateway_port = port_from(variables, "PORT", 5000)
    upstream = upstream_of(given, variables)
    stub = None
    for_gateway = {**os.environ, "PORT": str(gateway_port), "PYTHONUNBUFFERED": "1"}
    workers = workers_for(variables)
    if workers is not None:
        for_gateway["WORKERS"] = str(workers)
    if upstream is None:
        stub_port = port_from(variables, "STUB_PORT", 5001)
        if stub_port == gateway_port:
            raise Failure(f"the gateway and the stub cannot both have port {stub_port}: set PORT or STUB_PORT")
        require_free("gateway", gateway_port, "PORT")
        require_free("stub", stub_port, "STUB_PORT")
        for_stub = {**os.environ, "HOST": "127.0.0.1", "PORT": str(stub_port), "PYTHONUNBUFFERED": "1"}
        stub = start("stub", ["upstream_stub"], stub_port, "/health", for_stub)
        children.append(stub)
        upstream = for_gateway["UPSTREAM_URL"] = f"http://127.0.0.1:{stub_port}"
    else:
        require_free("gateway", gateway_port, "PORT")
    gateway = start("gateway", ["gateway", "run"], gateway_port, "/livez", for_gateway)
    children.append(gateway)
    wait_until_ready(children, signals)
    if not signals.stops:
        fixed = [name for name in ("PORT", "UPSTREAM_URL", "WORKERS") if for_gateway.get(name, "").strip()]
        settings = {**variables, **{name: for_gateway[name] for name in fixed}}
        print(welcome(gateway, stub, upstream, settings, fixed), flush=True)
    while not signals.stops:
        fail_if_dead(children)
        signals.wait()
    print("\nstopping; Ctrl-C again stops at once", flush=True)


def main() -> int:
    signals = Signals()
    children: list[Child] = []
    problems: list[str] = []
    try:
        serve(signals, children)
    except Failure as failure:
        problems.append(str(failure))
    for child in reversed(children):
        problem = stop(child, signals)
        if problem is not None and problem not in problems:
            problems.append(problem)
    for problem in problems:
        print(f"run: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
