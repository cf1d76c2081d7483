"""`scripts/run_local.py`: both start, both stop, and whatever goes wrong is said and leaves nothing behind.

The runner and the stub are the real ones; the gateway is a small program, so that it can be made to misbehave, in all
tests but the last two.
"""

import os
import shutil
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from gateway.system.cores import usable_cores
from tests.support import plain_http
from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, ChildProcess, clean_environment, has_ended
from tests.support.waiting import eventually

GATEWAY = """
    import http.server, os, signal, sys, time
    BEHAVIOUR = os.environ.get("BEHAVIOUR")
    if BEHAVIOUR == "fails to start":
        sys.exit(3)
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            name = "WORKERS" if self.path == "/workers" else "UPSTREAM_URL"
            self.wfile.write((os.environ.get(name) or "not supplied").encode())
            if self.path == "/die":
                os._exit(7)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
    def stop(*_):
        if BEHAVIOUR != "hangs":
            print("gateway stops", flush=True)
            os._exit(0)
    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()
"""


class Checkout:
    """A directory with the runner, the stub, and that gateway."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.stub_port = free_port(), free_port()
        (directory / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "run_local.py", directory / "scripts")
        (directory / "upstream_stub").symlink_to(ROOT / "upstream_stub")
        (directory / "gateway").mkdir()
        (directory / "gateway" / "__init__.py").touch()  # or an installed package would go before it
        (directory / "gateway" / "__main__.py").write_text(textwrap.dedent(GATEWAY))
        (directory / "gateway" / "system").symlink_to(ROOT / "gateway" / "system")

    def run(self, cores: set[int] | None = None, **variables: str) -> ChildProcess:
        """An empty variable is passed on: it counts as not set. `cores` are those that it may use."""
        variables = {"PORT": str(self.port), "STUB_PORT": str(self.stub_port), **variables}
        environment = clean_environment(**variables)
        environment["PYTHONPATH"] = str(self.directory)  # where it finds that gateway before the installed one
        command = [sys.executable, str(self.directory / "scripts" / "run_local.py")]
        if cores is not None:
            program = f"import os, sys; os.sched_setaffinity(0, {cores}); os.execv(sys.argv[1], sys.argv[1:])"
            command = [sys.executable, "-c", program, *command]
        return ChildProcess("run_local", command, env=environment, cwd=self.directory)

    def nothing_listens(self) -> bool:
        return not is_listening(self.port) and not is_listening(self.stub_port)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_says_what_to_try_and_stops_both_on_a_signal(checkout: Checkout, number: signal.Signals) -> None:
    with checkout.run() as runner:
        runner.wait_for_line("stop with Ctrl-C. Try:")
        assert plain_http.request(checkout.stub_port, "/ok").status == 200
        upstream = plain_http.request(checkout.port, "/").body.decode()
        assert upstream == f"http://127.0.0.1:{checkout.stub_port}"
        os.killpg(runner.pid, number)
        assert runner.wait() == 0
        assert "gateway stops" in runner.lines
    assert checkout.nothing_listens()


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("given", "in_file", "said"),
    [
        ("", "", f"{min(2, usable_cores())} worker process"),
        ("", "WORKERS=\n", f"{min(2, usable_cores())} worker process"),
        ("3", "WORKERS=4\n", "3 worker processes"),
        ("", "WORKERS=4\n", "4 worker processes"),
        ("", "WORKERS=auto\n", "a worker process for each core"),
    ],
)
def test_says_how_many_workers_there_are(checkout: Checkout, given: str, in_file: str, said: str) -> None:
    """And supplies a number only where nobody has said one."""
    (checkout.directory / ".env").write_text(in_file)
    with checkout.run(WORKERS=given) as runner:
        assert f"with {said}" in runner.wait_for_line("(WORKERS changes that)")
        supplied = plain_http.request(checkout.port, "/workers").body.decode()
        assert supplied == (given or ("not supplied" if in_file[8:].strip() else str(min(2, usable_cores()))))
        hint = runner.wait_for_line("after a change in .env")
        assert ("WORKERS" in hint) == (supplied != "not supplied")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only where a process can be kept to a core (Linux)")
def test_there_is_one_worker_on_one_core(checkout: Checkout) -> None:
    with checkout.run(cores={min(os.sched_getaffinity(0))}) as runner:
        assert "with 1 worker process (WORKERS changes that)" in runner.wait_for_line("stop with Ctrl-C. Try:")
        assert plain_http.request(checkout.port, "/workers").body == b"1"


def test_copies_of_one_signal_do_not_cut_the_stop_short(checkout: Checkout) -> None:
    with checkout.run() as runner:
        runner.wait_for_line("stop with Ctrl-C. Try:")
        for _ in range(3):
            runner.send_signal(signal.SIGTERM)
        assert runner.wait() == 0


def test_a_second_signal_ends_a_gateway_that_hangs(checkout: Checkout) -> None:
    with checkout.run(BEHAVIOUR="hangs") as runner:
        runner.wait_for_line("stop with Ctrl-C. Try:")
        runner.send_signal(signal.SIGINT)
        runner.wait_for_line("stopping")
        with pytest.raises(AssertionError, match="still runs"):
            runner.wait(1.2)
        runner.send_signal(signal.SIGINT)
        assert runner.wait() == 1
        assert "run: the gateway was killed: it had not ended" in runner.lines
    assert checkout.nothing_listens()


@pytest.mark.parametrize(("taken", "variable"), [("gateway", "PORT"), ("stub", "STUB_PORT")])
def test_names_the_port_that_is_taken(checkout: Checkout, taken: str, variable: str) -> None:
    port = checkout.port if taken == "gateway" else checkout.stub_port
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with ChildProcess("occupant", server, cwd=checkout.directory) as occupant:
        occupant.wait_until(lambda: is_listening(port), "listening")
        with checkout.run() as runner:
            assert runner.wait() == 1
            other = port + (1000 if port < 64_000 else -1000)
            problem = f"run: the {taken} cannot have port {port}: address already in use."
            assert runner.lines == [f"{problem} Try another one: make run {variable}={other}"]


def test_a_gateway_that_does_not_start_takes_the_stub_with_it(checkout: Checkout) -> None:
    with checkout.run(BEHAVIOUR="fails to start") as runner:
        assert runner.wait() == 1
        assert "run: the gateway ended with status 3" in runner.lines
    assert checkout.nothing_listens()


def test_a_gateway_that_dies_later_takes_the_stub_with_it(checkout: Checkout) -> None:
    with checkout.run() as runner:
        runner.wait_for_line("stop with Ctrl-C. Try:")
        plain_http.request(checkout.port, "/die", timeout=5.0)
        assert runner.wait() == 1
        assert "run: the gateway ended with status 7" in runner.lines
    assert checkout.nothing_listens()


def test_a_wrong_port_is_named(checkout: Checkout) -> None:
    with checkout.run(PORT="http") as runner:
        assert runner.wait() == 1
        assert runner.lines == ["run: PORT must be a whole number from 1 to 65535, not 'http'"]


def test_with_an_upstream_in_the_env_file_there_is_no_stub(checkout: Checkout) -> None:
    """And an empty STUB_PORT is not set: it diverts nothing to the stub."""
    ports = f"# PORT=1\nexport PORT={checkout.port}  # ours\nSTUB_PORT='{checkout.stub_port}'\n"
    (checkout.directory / ".env").write_text(ports + "UPSTREAM_URL=http://elsewhere.example\n")
    with checkout.run(PORT="", STUB_PORT="") as runner:
        runner.wait_for_line("in front of http://elsewhere.example; stop with Ctrl-C. Try:")
        assert not is_listening(checkout.stub_port)
        assert plain_http.request(checkout.port, "/").body == b"not supplied"
        runner.send_signal(signal.SIGINT)
        assert runner.wait() == 0
        assert "stub" not in runner.output
        assert "/proxy/fail" not in runner.output


def test_the_env_file_of_the_template_means_the_stub_wherever_it_is(checkout: Checkout) -> None:
    template = [line for line in (ROOT / ".env.example").read_text().splitlines() if line.startswith("UPSTREAM_URL=")]
    ports = f"PORT={checkout.port}\nSTUB_PORT={checkout.stub_port}\n"
    (checkout.directory / ".env").write_text(ports + template[0] + "\n")
    with checkout.run(PORT="", STUB_PORT="") as runner:
        runner.wait_for_line("in front of the stub upstream")
        upstream = plain_http.request(checkout.port, "/").body.decode()
        assert upstream == f"http://127.0.0.1:{checkout.stub_port}"
        runner.send_signal(signal.SIGINT)
        assert runner.wait() == 0


def test_with_tls_the_hints_say_so(checkout: Checkout) -> None:
    with checkout.run(TLS_CERT_FILE="cert.pem", TLS_KEY_FILE="key.pem") as runner:
        runner.wait_for_line("stop with Ctrl-C. Try:")
        runner.wait_for_line("/health")
        assert f"curl -k -s https://localhost:{checkout.port}/health" in runner.output
        runner.wait_for_line(f"GATEWAY_URL=https://localhost:{checkout.port} .venv/bin/gateway status --insecure")
        assert f"http://localhost:{checkout.port}" not in runner.output
        runner.send_signal(signal.SIGINT)
        assert runner.wait() == 0


def test_an_empty_upstream_url_is_none(checkout: Checkout) -> None:
    with checkout.run(UPSTREAM_URL="") as runner:
        runner.wait_for_line("stop with Ctrl-C. Try:")
        upstream = plain_http.request(checkout.port, "/").body.decode()
        assert upstream == f"http://127.0.0.1:{checkout.stub_port}"
        runner.send_signal(signal.SIGINT)
        assert runner.wait() == 0


def test_killing_the_runner_leaves_nothing_behind(checkout: Checkout) -> None:
    if not shutil.which("setpriv"):
        pytest.skip("only where setpriv ties the children to the runner (Linux)")
    with checkout.run() as runner:
        runner.wait_for_line("stop with Ctrl-C. Try:")
        runner.kill()
        eventually(checkout.nothing_listens, "without orphans")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc (Linux)")
def test_the_real_gateway_reloads_and_all_of_its_workers_end(checkout: Checkout) -> None:
    shutil.rmtree(checkout.directory / "gateway")
    (checkout.directory / "gateway").symlink_to(ROOT / "gateway")
    settings = checkout.directory / ".env"
    settings.write_text("WORKERS=2\n")

    def pids() -> set[int]:
        workers = plain_http.request(checkout.port, "/api/resilience/workers").json()["workers"]
        return {worker["pid"] for worker in workers if worker["state"] == "ready"}

    with checkout.run() as runner:
        runner.wait_for_line("with 2 worker processes")
        before = pids()
        settings.write_text("WORKERS=3\n")
        answer = plain_http.request(
            checkout.port, "/api/admin/reload", method="POST", body=b"{}", headers=JSON, timeout=60.0
        )
        assert answer.status == 200, answer.body
        eventually(lambda: len(pids() - before) == 3, "three new workers")
        every = before | pids()
        os.killpg(runner.pid, signal.SIGINT)
        assert runner.wait() == 0
    eventually(lambda: all(map(has_ended, every)), "the end of all workers")
    assert checkout.nothing_listens()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc (Linux)")
def test_a_second_ctrl_c_ends_the_workers_of_the_real_gateway_at_once(checkout: Checkout) -> None:
    shutil.rmtree(checkout.directory / "gateway")
    (checkout.directory / "gateway").symlink_to(ROOT / "gateway")
    with checkout.run(WORKERS="2", DRAIN_DELAY_SECONDS="60") as runner:
        runner.wait_for_line("with 2 worker processes")
        table = plain_http.request(checkout.port, "/api/resilience/workers").json()["workers"]
        every = [worker["pid"] for worker in table]
        assert len(every) == 2
        os.killpg(runner.pid, signal.SIGINT)
        runner.wait_for_line("stopping")
        # One within a second of the first would count as a copy of it.
        with pytest.raises(AssertionError, match="still runs"):
            runner.wait(1.2)
        os.killpg(runner.pid, signal.SIGINT)
        assert runner.wait() == 1
    eventually(lambda: all(map(has_ended, every)), "the end of all workers")
    assert checkout.nothing_listens()
