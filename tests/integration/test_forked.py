"""A gateway that was forked (`tests.support.fork_server`) is like one that was executed, in all that tests look at."""

import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.support import forked
from tests.support.fork_server import Job
from tests.support.gateway_process import GatewayProcess
from tests.support.processes import ChildProcess, clean_environment
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.skipif(not forked.POSSIBLE, reason="processes are forked only where /proc is (Linux)")

_STATUS = re.compile(
    r"^(Uid|Gid|Groups|Umask|Threads|NoNewPrivs|SigBlk|SigIgn|SigCgt|CapEff):[ \t]*(.*)$", re.MULTILINE
)
TOKEN = "a-token-of-sixteen-characters"
SLOW = 120.0


@pytest.fixture
def pair(start_gateway: StartGateway, stub: StubProcess) -> tuple[GatewayProcess, GatewayProcess]:
    """One that was executed, and one that was forked."""
    env = {"UPSTREAM_URL": stub.url, "WORKERS": "2", "ADMIN_TOKEN": TOKEN, "LOG_LEVEL": "DEBUG"}
    executed, forked = start_gateway(env, fork=False), start_gateway(env)
    for gateway in (executed, forked):
        gateway.wait_until(lambda each=gateway: len(ready(each)) == 2, "two workers")  # type: ignore[misc] # bound now
    assert "fork_server" not in command_line(executed)
    assert "fork_server" in command_line(forked)
    return executed, forked


def ready(gateway: GatewayProcess) -> set[int]:
    workers = gateway.get("/api/resilience/workers").json()["workers"]
    return {each["pid"] for each in workers if each["state"] == "ready"}


def command_line(gateway: GatewayProcess) -> str:
    return Path(f"/proc/{gateway.pid}/cmdline").read_text()


def files(pid: int) -> Counter[str]:
    """What it has open, without what distinguishes one socket from another."""
    links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return Counter(link.partition(":[")[0] for link in links)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def facts(pid: int, gateway: GatewayProcess) -> dict[str, Any]:
    """What the kernel says of a process of a gateway."""
    process = Path(f"/proc/{pid}")
    limits = [line for line in (process / "limits").read_text().splitlines() if "pending signals" not in line]
    return {
        "status": _STATUS.findall((process / "status").read_text()),
        "limits": limits,
        "session": os.getsid(pid) == os.getpgid(pid) == gateway.pid,
        "cwd": (process / "cwd").readlink() == gateway.directory,
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "cores": os.sched_getaffinity(pid),
    }


def test_its_processes_have_the_same_files_signals_limits_and_places(
    pair: tuple[GatewayProcess, GatewayProcess],
) -> None:
    seen = []
    for gateway in pair:
        workers = sorted(gateway.children())
        assert set(workers) == ready(gateway)
        assert [parent(pid) for pid in workers] == [gateway.pid] * 2
        seen.append([facts(pid, gateway) for pid in (gateway.pid, *workers)])
    assert seen[0] == seen[1]

    def alike() -> bool:
        executed, forked = ([files(pid) for pid in (each.pid, *sorted(each.children()))] for each in pair)
        # Of the forked supervisor, the one to the process that forks its workers.
        forked[0] -= Counter({"socket": 1})
        return forked == executed

    # Connections that this test has made end a moment after it has got its answers.
    eventually(alike, "as many files of each kind")


def test_it_answers_and_logs_the_same(pair: tuple[GatewayProcess, GatewayProcess]) -> None:
    told = []
    for gateway in pair:
        assert gateway.get("/proxy/ok").status == 200
        settings = gateway.get("/api/resilience/configuration", {"Authorization": f"Bearer {TOKEN}"}).json()["settings"]
        names = re.findall(r"^# TYPE (\S+ \S+)", gateway.get("/metrics").body.decode(), re.MULTILINE)
        assert gateway.stop() == 0
        events = Counter((each.get("event"), each.get("logger"), *each) for each in gateway.log_records())
        told.append(([each for each in settings if each["setting"] != "PORT"], names, events))
    assert told[0] == told[1]


def test_it_reloads_upgrades_and_is_killed_as_the_other(pair: tuple[GatewayProcess, GatewayProcess]) -> None:
    for gateway in pair:
        for number in (signal.SIGHUP, signal.SIGUSR2):
            before = ready(gateway)
            gateway.send_signal(number)
            eventually(lambda old=before, each=gateway: len(ready(each) - old) == 2, "new workers", SLOW)  # type: ignore[misc] # bound now
            eventually(lambda each=gateway: set(each.children()) == ready(each), "nobody else", SLOW)  # type: ignore[misc] # bound now
        gateway.kill()
        assert gateway.returncode == -signal.SIGKILL


@pytest.mark.parametrize("fork", [False, True])
def test_a_worker_that_was_killed_is_missed_in_the_same_words(
    start_gateway: StartGateway, stub: StubProcess, fork: bool
) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url}, fork=fork)
    first = gateway.worker
    os.kill(first, signal.SIGKILL)
    gateway.wait_for_line(f"worker 0 (pid {first}) was ended by SIGKILL")
    gateway.wait_until(lambda: gateway.worker != first and gateway.get("/livez").status == 200, "another one")


@pytest.mark.parametrize("fork", [False, True])
def test_it_says_why_it_does_not_start(start_gateway: StartGateway, fork: bool) -> None:
    gateway = start_gateway({"PORT": "0", "UPSTREAM_URL": "x"}, ready=False, fork=fork)
    assert gateway.wait() == 1
    assert len(gateway.lines) == 1
    assert gateway.lines[0].startswith("environment UPSTREAM_URL: ")


def test_it_is_killed_with_its_server(tmp_path: Path) -> None:
    environ = clean_environment(PORT="0")
    server = forked.Server(environ)
    process = server.start(Job("upstream_stub", [], environ, [1, 2], str(tmp_path), leads_session=True), ())
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"upstream stub on http://")
    assert process.poll() is None
    server.close()
    assert process.wait(PATIENCE) == -signal.SIGKILL
    process.stdout.close()


def test_what_would_differ_is_executed(tmp_path: Path) -> None:
    with ChildProcess("child", ["true"], env={}, cwd=tmp_path, fork=True) as child:
        assert not isinstance(child._popen, forked.ForkedProcess)
