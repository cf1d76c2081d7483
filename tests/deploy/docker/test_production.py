"""Production, deployed for real: what is inside, what survives a bad deployment, backup and restore, several gateways.

The order of the tests is that of a deployment's life; each leaves a single gateway that serves.
"""

import http.client
import re
import shutil
import subprocess
import time
from collections import Counter

from tests.deploy.docker.conftest import Stack
from tests.deploy.tools import run
from tests.deploy.traffic import BODIES, Traffic
from tests.support import plain_http

CAPABILITIES = "CapEff:\t0000000000000000"


def serves(stack: Stack) -> bool:
    return plain_http.request(stack.port, "/proxy/ok").status == 200


def test_every_endpoint(stack: Stack) -> None:
    answer = run(["bash", "test-endpoints.sh", stack.url], stack.clone)
    assert answer.returncode == 0, answer.stdout


def test_the_gateway_has_no_more_than_it_needs(stack: Stack) -> None:
    assert stack.inside("proxy-service", "id", "-u")[1].strip().isdigit()
    assert stack.inside("proxy-service", "id", "-u")[1].strip() != "0"
    assert stack.inside("proxy-service", "touch", "/app/file")[0] != 0
    assert CAPABILITIES in stack.inside("proxy-service", "cat", "/proc/1/status")[1]
    assert stack.inside("proxy-service", "sh", "-c", "command -v gcc cc make")[0] != 0
    assert stack.inside("proxy-service", "python", "-c", "import pytest")[0] != 0


def test_what_the_runbook_uses_from_inside(stack: Stack) -> None:
    assert stack.inside("proxy-service", "curl", "-fsS", "http://upstream-service:5001/health")[0] == 0
    assert stack.inside("proxy-service", "ping", "-c", "1", "upstream-service")[0] == 0
    assert stack.inside("redis", "redis-cli", "PING") == (0, "PONG\n")
    assert stack.inside("redis", "redis-cli", "CONFIG", "GET", "maxmemory-policy")[1].split()[1] == "volatile-ttl"


def test_redis_wants_the_password(stack: Stack) -> None:
    answer = stack.inside("redis", "env", "-u", "REDISCLI_AUTH", "redis-cli", "PING")[1]
    assert "NOAUTH" in answer
    password = re.findall(r"^REDIS_PASSWORD=(\w+)$", stack.env(), re.MULTILINE)[-1]
    assert password not in stack.inside("redis", "cat", "/proc/1/cmdline")[1]


def test_deploying_again_replaces_nothing(stack: Stack) -> None:
    before = stack.ids("proxy-service"), stack.ids("redis")
    status, output = stack.deploy("prod", "--no-build")
    assert status == 0, output
    assert (stack.ids("proxy-service"), stack.ids("redis")) == before


def test_a_restart_is_enough_for_new_settings(stack: Stack) -> None:
    stack.set_env({"RATE_LIMIT_CAPACITY": "4321"})
    stack.compose("restart", "proxy-service")
    deadline = time.monotonic() + 30
    while True:
        try:
            answer = plain_http.request(stack.port, "/proxy/ok")
            break
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert answer.headers["RateLimit-Policy"].startswith('"default";q=4321')


def test_new_settings_alone_are_reloaded_and_lose_nothing(stack: Stack) -> None:
    good = stack.env()
    stack.set_env({"RATE_LIMIT_CAPACITY": "100000", "RATE_LIMIT_REFILL_RATE": "10000"})
    assert stack.deploy("prod", "--no-build")[0] == 0
    (gateway,) = stack.ids("proxy-service")
    started = run(["docker", "inspect", "--format", "{{.State.StartedAt}}", gateway], stack.clone).stdout
    stack.set_env({"RATE_LIMIT_CAPACITY": "100001"})
    with Traffic(stack.port, "/proxy/echo") as traffic:
        status, output = stack.deploy("prod", "--no-build")
    assert status == 0, output
    assert "reloaded in place" in output
    assert traffic.lost() == {}
    assert run(["docker", "inspect", "--format", "{{.State.StartedAt}}", gateway], stack.clone).stdout == started
    answer = plain_http.request(stack.port, "/proxy/ok")
    assert answer.headers["RateLimit-Policy"].startswith('"default";q=100001')
    # Another file in the place of .env: the container has the one before.
    (stack.clone / ".env.new").write_text(good, encoding="utf-8")
    (stack.clone / ".env.new").replace(stack.clone / ".env")
    status, output = stack.deploy("prod", "--no-build")
    assert status == 0, output
    assert "its container does not have the new files yet" in output
    assert serves(stack)


def test_mistakes_in_the_settings_leave_what_runs(stack: Stack) -> None:
    for name, value, message in (
        ("RATE_LIMIT_CAPACTY", "5", "did you mean RATE_LIMIT_CAPACITY?"),
        ("HOST", "192.0.2.1", "cannot listen on 192.0.2.1:5000"),
    ):
        good, before = stack.env(), stack.ids("proxy-service")
        stack.set_env({name: value})
        try:
            status, output = stack.deploy("prod", "--no-build")
        finally:
            (stack.clone / ".env").write_text(good, encoding="utf-8")
        assert status == 1
        assert message in output
        assert stack.ids("proxy-service") == before
        assert serves(stack)


def test_what_only_fails_from_outside_is_taken_back(stack: Stack) -> None:
    assert stack.deploy("prod", "--no-build")[0] == 0
    good = stack.env()
    stack.set_env({"HOST": "127.0.0.1"})
    status, output = stack.deploy("prod", "--no-build")
    assert status == 1
    assert "what ran before runs again" in output
    assert stack.env() == good
    assert serves(stack)


def test_backup_and_restore(stack: Stack) -> None:
    stack.inside("redis", "redis-cli", "SET", "canary", "before")
    status, output = stack.deploy("backup")
    assert status == 0, output
    backup = max((stack.clone / "redis-backups").glob("*.rdb"))
    stack.inside("redis", "redis-cli", "SET", "canary", "after")
    status, output = stack.deploy("restore", str(backup))
    assert status == 0, output
    assert stack.inside("redis", "redis-cli", "GET", "canary")[1] == "before\n"
    # The append-only file goes on from there.
    stack.inside("redis", "redis-cli", "SET", "canary", "later")
    stack.compose("restart", "redis")
    deadline = time.monotonic() + 30
    while stack.inside("redis", "redis-cli", "GET", "canary")[1] != "later\n":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    damaged = stack.clone / "damaged.rdb"
    damaged.write_bytes(backup.read_bytes()[:-20] + b"x" * 20)
    status, output = stack.deploy("restore", str(damaged))
    assert status == 1
    assert "Redis was not touched" in output
    assert stack.inside("redis", "redis-cli", "GET", "canary")[1] == "later\n"


def test_several_gateways_share_limits_and_lose_nothing(stack: Stack) -> None:
    single = stack.env()
    variables = {
        "COMPOSE_FILE": "docker-compose.prod.yml:docker-compose.scale.yml",
        "DOCKER_PUBLISH": "127.0.0.1:",
        "DOCKER_NGINX_PUBLISH": str(stack.port),
    }
    limit = {"RATE_LIMIT_CAPACITY": "50", "RATE_LIMIT_REFILL_RATE": "0.1", "RATE_LIMIT_TTL": "600"}
    stack.set_env({"RATE_LIMIT_CAPACITY": "50", "RATE_LIMIT_REFILL_RATE": "0.1"} | limit)
    try:
        status, output = stack.deploy("prod", "--no-build", **variables)
        assert status == 0, output
        assert len(stack.compose("ps", "-q", "proxy-service", **variables).split()) == 3
        statuses = Counter(plain_http.request(stack.port, "/proxy/ok").status for _ in range(200))
        assert statuses[429] == 200 - statuses[200]
        assert 50 <= statuses[200] <= 55

        stack.set_env({"RATE_LIMIT_CAPACITY": "100000", "RATE_LIMIT_REFILL_RATE": "10000"})
        status, output = stack.deploy("prod", "--no-build", **variables)
        assert status == 0, output
        with Traffic(stack.port, "/proxy/echo") as traffic:
            time.sleep(1)
            run(["docker", "stop", stack.compose("ps", "-q", "proxy-service", **variables).split()[0]], stack.clone)
            time.sleep(4)
        assert traffic.lost() == {}
        assert all(traffic.seen[method, 200] > 50 for method in BODIES), traffic.seen
    finally:
        (stack.clone / ".env").write_text(single, encoding="utf-8")
        stack.compose("rm", "--stop", "--force", **variables)
        status, output = stack.deploy("prod", "--no-build")
    assert status == 0, output
    assert serves(stack)


def test_to_several_and_back_with_traffic(stack: Stack) -> None:
    """Nothing is lost, whoever has the port. Without iptables, nobody can be reached while it changes hands."""
    iptables = shutil.which("iptables")
    may_hold = iptables is not None and subprocess.run([iptables, "-t", "raw", "-S"], check=False).returncode == 0
    published = stack.variables.pop("DOCKER_PUBLISH")
    stack.set_env({"DOCKER_PUBLISH": published, "RATE_LIMIT_CAPACITY": "100000", "RATE_LIMIT_REFILL_RATE": "10000"})
    single = stack.env()
    scale = "docker-compose.prod.yml:docker-compose.scale.yml"
    stack.set_env({"COMPOSE_FILE": scale, "DOCKER_PUBLISH": "127.0.0.1:", "DOCKER_NGINX_PUBLISH": published})
    scaled = stack.env()
    try:
        (stack.clone / ".env").write_text(single, encoding="utf-8")
        assert stack.deploy("prod", "--no-build")[0] == 0
        for text, command in (
            (scaled, ("prod", "--no-build")),
            (single, ("prod", "--no-build")),
            (None, ("rollback",)),
        ):
            if text is not None:
                (stack.clone / ".env").write_text(text, encoding="utf-8")
            with Traffic(stack.port, "/proxy/echo") as traffic:
                status, output = stack.deploy(*command)
            assert status == 0, output
            answered = {outcome for _, outcome in traffic.seen if isinstance(outcome, int)}
            assert answered == {200}, traffic.seen
            assert not may_hold or traffic.lost() == {}
            # The first has the number that `exec` and `port` of docker-compose 1.29 look for.
            assert stack.compose("port", "proxy-service", "5000")
        assert len(stack.ids("proxy-service")) == 3
        with Traffic(stack.port, "/proxy/echo") as traffic:
            status, output = stack.deploy("restart")
        assert status == 0, output
        assert traffic.lost() == {}
    finally:
        (stack.clone / ".env").write_text(single, encoding="utf-8")
        status, output = stack.deploy("prod", "--no-build")
    assert status == 0, output
    try:
        with Traffic(stack.port, "/proxy/echo") as traffic:
            status, output = stack.deploy("restart")
        assert not may_hold or traffic.lost() == {}
    finally:
        stack.variables["DOCKER_PUBLISH"] = published
    assert status == 0, output


def test_stopped_and_gone(stack: Stack) -> None:
    assert stack.deploy("stop")[0] == 0
    assert stack.deploy("status")[0] == 1
    status, output = stack.deploy("prod", "--no-build")
    assert status == 0, output
    assert serves(stack)
