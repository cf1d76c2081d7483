"""The command line: in a process of its own where that is the matter, and within this one elsewhere, in less time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import __version__
from gateway.compiled import HOW
from tests.conftest import StartGateway
from tests.integration.conftest import Command
from tests.support.processes import clean_environment
from tests.support.stub_process import StubProcess

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = str(REPOSITORY / "gateway.example.yaml")


@pytest.fixture
def gateway(command: Command) -> Command:
    return command


@pytest.fixture
def program(tmp_path: Path) -> Command:
    """Run `python -m gateway` in an empty directory and environment."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            cwd=tmp_path,
            env=clean_environment(**environ),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_check_says_ok(program: Command) -> None:
    result = program("check", SERVICE_NAME="edge")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "ok: 1 route, 1 upstream, 1 rate limit; http on *:5000; embedded store (no Redis)\n"


def test_check_of_the_examples(gateway: Command) -> None:
    result = gateway("check", "--config", EXAMPLE, "--env-file", str(REPOSITORY / ".env.example"))
    assert (result.returncode, result.stdout.splitlines()[0][:20]) == (0, "ok: 7 routes, 7 upst")


def test_a_bad_configuration_is_refused_in_the_same_words(gateway: Command, program: Command, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=x\nRATE_LIMT_CAPACITY=1\n")
    (tmp_path / "gateway.yaml").write_text("routes:\n  - {name: r, prefix: r, upstream: u}\n")
    expected = (
        '.env:1 PORT: "x"; allowed: an integer from 1 to 65535\n'
        ".env:2 RATE_LIMT_CAPACITY: unknown name; allowed: the names in .env.example; "
        "did you mean RATE_LIMIT_CAPACITY?\n"
        "gateway.yaml:2 routes[0].prefix: \"r\"; allowed: a path that begins with '/', without '//', query, fragment "
        "or dot segments\n"
    )
    checked = gateway("check", GATEWAY_CONFIG="gateway.yaml")
    assert (checked.returncode, checked.stdout, checked.stderr) == (1, expected, "")
    for refused in (program("run", "--config", "gateway.yaml"), gateway("routes", "--config", "gateway.yaml")):
        assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", expected)


def test_a_warning_changes_no_exit_code_unless_strict(gateway: Command, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SERVICE_NAME=a\nSERVICE_NAME=a\n")
    warning = "warning: .env:2 SERVICE_NAME: the same as on line 1; one of the two is enough\n"
    checked = gateway("check")
    assert (checked.returncode, checked.stdout[:4], checked.stderr) == (0, "ok: ", warning)
    strict = gateway("check", "--strict")
    assert (strict.returncode, strict.stdout, strict.stderr) == (1, "", warning)
    shown = gateway("routes")
    assert (shown.returncode, shown.stderr) == (0, warning)


def test_routes_say_where_each_setting_comes_from(gateway: Command, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RATE_LIMIT_CAPACITY=60\n")
    (tmp_path / "g.yaml").write_text(
        "upstreams:\n  a:\n    endpoints: ['h:1']\n    timeouts: {attempt: 500ms}\n"
        "routes:\n  - {name: r, prefix: /r, upstream: a}\n"
    )
    lines = gateway("routes", "--config", "g.yaml", LOG_LEVEL="debug").stdout.splitlines()
    rows = [line.split() for line in lines]
    assert ["RATE_LIMIT_CAPACITY", '"60"', ".env:1"] in rows
    assert ["LOG_LEVEL", '"debug"', "environment"] in rows
    assert ["upstreams.a.timeouts.attempt", '"500ms"', "g.yaml:4"] in rows
    assert not any(row[0] == "BULKHEAD_LIMIT" for row in rows if row)
    origins = json.loads(gateway("routes", "--json").stdout)["origins"]
    assert origins["BULKHEAD_LIMIT"] == {"value": "1000", "source": "default"}


def test_routes(gateway: Command) -> None:
    result = gateway("routes", "--config", EXAMPLE)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["Listener: http on *:5000", "Store: embedded store (no Redis)"]
    for title in ("Routes", "Upstreams", "Retries", "Circuit breakers", "Concurrency", "Rate limits"):
        assert title in lines
    gates = [line.split()[1] for line in lines if line.startswith("  orders-write ") and "=" in line]
    assert gates == ["client_share", "in_flight", "rate_limit", "bulkhead", "circuit", "adaptive_limit"]
    (row,) = [line.split() for line in lines if line.startswith("  orders-write ") and "DELETE" in line]
    matched = "any /api/orders/write DELETE,PATCH,POST,PUT orders"
    assert " ".join(row[1:]) == f"{matched} no no writes none anybody 1048576 refuse the upstream's choice no"


def test_routes_show_how_the_caps_are_divided_between_workers(gateway: Command) -> None:
    result = gateway("routes", WORKERS="3", MAX_INFLIGHT="10", BULKHEAD_LIMIT="2", UPSTREAM_MAX_CONNECTIONS="8")
    rows = result.stdout.partition("Divided between 3 workers\n")[2].partition("\n\n")[0]
    assert [each.split() for each in rows.splitlines()[2:5]] == [
        ["MAX_INFLIGHT", "10", "4", "(the", "first),", "3"],
        ["the", "bulkhead", "of", "upstream", "default", "2", "1"],
        ["the", "connections", "of", "upstream", "default", "8", "3", "(the", "first", "2),", "2"],
    ]
    assert json.loads(gateway("routes", "--json", WORKERS="3", MAX_INFLIGHT="10").stdout)["shares"]["MAX_INFLIGHT"] == [
        4,
        3,
        3,
    ]
    assert "Divided" not in gateway("routes", WORKERS="1").stdout


def test_a_cap_smaller_than_the_number_of_workers_is_a_warning(gateway: Command) -> None:
    result = gateway("check", "--strict", WORKERS="3", BULKHEAD_LIMIT="2")
    warning = "warning: WORKERS: smaller than the number of workers (3), and each has at least 1: "
    assert (result.returncode, result.stderr) == (1, f"{warning}the bulkhead of upstream default (2)\n")


def test_routes_as_json(gateway: Command) -> None:
    result = gateway("routes", "--json", REDIS_URL="redis://:hunter2@h", TRUSTED_PROXIES="::1")
    assert "hunter2" not in result.stdout + result.stderr
    config = json.loads(result.stdout)
    assert config["redis"]["password"] == "***"
    assert config["redis"]["addresses"] == [["h", 6379]]
    assert config["server"]["trusted_proxies"] == ["::1/128"]
    assert config["routes"][0]["prefix"] == "/proxy/"
    assert config["upstreams"]["default"]["retry"]["statuses"] == [502, 503, 504]


def test_options_override_the_environment(gateway: Command, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\n")
    (tmp_path / "other.env").write_text("PORT=2\n")
    assert "*:1;" in gateway("check").stdout
    assert "*:2;" in gateway("check", "--env-file", "other.env").stdout
    assert "6 upstreams" not in gateway("check", "--config", "", GATEWAY_CONFIG=EXAMPLE).stdout
    assert "6 upstreams" in gateway("check", "--config", EXAMPLE, GATEWAY_CONFIG="nix.yaml").stdout


def test_a_configuration_file_that_was_asked_for_must_exist(gateway: Command) -> None:
    result = gateway("check", "--config", "nix.yaml")
    assert (result.returncode, result.stdout) == (1, '--config: "nix.yaml"; allowed: an existing file\n')


def test_an_env_file_that_was_asked_for_must_exist(gateway: Command) -> None:
    result = gateway("check", "--env-file", "nix.env")
    assert (result.returncode, result.stdout) == (1, '--env-file: "nix.env"; allowed: an existing file\n')


def test_version(gateway: Command) -> None:
    assert gateway("--version").stdout == f"gateway {__version__} ({HOW})\n"


@pytest.mark.parametrize("arguments", [(), ("chek",), ("check", "--nix"), ("check", "x")])
def test_a_wrong_command_line_is_2(gateway: Command, arguments: tuple[str, ...]) -> None:
    result = gateway(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: gateway")


def test_run_writes_warnings_to_its_log_once(start_gateway: StartGateway, stub: StubProcess, tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("upstreams:\n  unused:\n    endpoints: ['h:1']\n")
    running = start_gateway({"GATEWAY_CONFIG": str(config), "UPSTREAM_URL": stub.url})
    running.wait_for_records(event="configuration_notice")
    assert running.stop() == 0
    found = running.log_records(event="configuration_notice")
    assert [line["message"] for line in found] == [f"Configuration: {config}:2 upstreams.unused: no route uses it"]
    assert found[0]["level"] == "WARNING"
