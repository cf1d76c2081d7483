"""`gateway sagas` and `gateway outbox`, against a real gateway."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from gateway.cli import main
from tests.integration.test_sagas import PLAIN, QUICK, becomes, configuration, started
from tests.support.gateway_process import GatewayProcess
from tests.support.journal_gateways import TOKEN, variables
from tests.support.participants import Participants
from tests.support.waiting import eventually

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def participants() -> Iterator[Participants]:
    with Participants() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(participants: Participants, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    whole = yaml.safe_load(configuration(participants.url, {"plain": PLAIN, "quick": QUICK}))
    hooks = {"name": "hooks", "prefix": "/do", "upstream": "participants", "rate_limit": None}
    whole["routes"].append({**hooks, "deliver": {"enabled": True, "schedule": []}})
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "gateway.yaml").write_text(yaml.safe_dump(whole))
    with GatewayProcess(variables(WORKERS="1"), directory) as running:
        running.wait_until(lambda: running.metric("gateway_journal_up") == 1.0, "with a journal")
        yield running


@pytest.fixture
def run(gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """One command: its exit status, and what it has printed."""
    monkeypatch.setenv("GATEWAY_URL", gateway.url)
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    yield command
    capsys.readouterr()


def answer(run: Run, *arguments: str) -> Any:
    code, out, error = run(*arguments, "--json")
    assert (code, error) == (0, "")
    return json.loads(out)


def test_an_operator_sees_to_runs(run: Run, gateway: GatewayProcess, participants: Participants) -> None:
    participants.usual.update({"/do/pay": 400, "/undo/reserve": 500})
    stuck = [started(gateway, "quick", None) for _ in range(3)]
    for each in stuck:
        becomes(gateway, each, "stuck")
    code, out, error = run("sagas", "list", "--state", "stuck", "--count", "2")
    assert (code, error) == (0, "")
    first, *lines = out.splitlines()
    assert first == "3 of 10000 runs open, 3 of them stuck"
    assert lines[1].split()[:2] == ["WORKFLOW", "STATE"]
    assert lines[2].split()[:3] == ["quick", "stuck", "3"]
    rows = [line for line in lines if line.startswith("saga_")]
    assert [row.split()[:3] for row in rows] == [[each, "quick", "stuck"] for each in stuck[:0:-1]]
    assert rows[0].endswith("reserve: answered 500")
    assert lines[-1] == f"there are more: --before {stuck[1]}"
    assert [each["id"] for each in answer(run, "sagas", "list", "--before", stuck[1])["sagas"]] == [stuck[0]]

    code, out, _ = run("sagas", "show", stuck[0])
    assert out.splitlines()[0].startswith(f"{stuck[0]}: stuck, quick, since ")
    assert "reason: reserve: answered 500\n" in out
    assert ["reserve", "undo_failed"] in [line.split()[:2] for line in out.splitlines()]
    assert "compensation_failed" in out

    assert run("sagas", "cancel", stuck[0], "--reason", "x")[0] == 1
    participants.usual.clear()
    retried = run("sagas", "retry", stuck[0], "--reason", "it is well again")
    assert (retried[0], retried[2]) == (0, "")
    becomes(gateway, stuck[0], "compensated")
    assert answer(run, "sagas", "skip", stuck[1], "--reason", "by hand")["state"] == "compensated"
    ended = answer(run, "sagas", "resolve", stuck[2], "succeeded", "--reason", "by hand")
    assert (ended["state"], ended["reason"]) == ("succeeded", "by hand")
    assert run("sagas", "list", "--state", "stuck")[1] == "0 of 10000 runs open, 0 of them stuck\n\nno runs\n"


def test_an_operator_sees_to_messages(run: Run, gateway: GatewayProcess, participants: Participants) -> None:
    participants.usual["/do/look"] = 500
    made = [str(gateway.request("POST", "/do/look", b"body").json()["id"]) for _ in range(2)]
    eventually(lambda: answer(run, "outbox", "list")["dead"] == 2, "given up")
    code, out, error = run("outbox", "list", "--state", "dead")
    assert (code, error) == (0, "")
    first, *lines = out.splitlines()
    assert first == "0 of 100000 messages wait, 0 of 1073741824 bytes; 2 dead"
    rows = [line for line in lines if line.startswith("msg_")]
    assert [row.split()[:4] for row in rows] == [[each, "hooks", "dead", "1"] for each in reversed(made)]
    assert run("outbox", "show", made[0])[1].endswith("last error: answered 500\n")

    participants.usual.clear()
    assert run("outbox", "replay", made[0])[1].startswith(f"{made[0]}: ")
    eventually(lambda: answer(run, "outbox", "show", made[0])["state"] == "delivered", "delivered")
    assert run("outbox", "replay", "--since", "1h", "--target", "hooks")[1] == "1 message will be delivered again\n"
    eventually(lambda: answer(run, "outbox", "list")["dead"] == 0, "delivered")


def test_what_is_not_there_is_1(run: Run) -> None:
    for command in (("sagas", "show", f"saga_{'0' * 26}"), ("outbox", "replay", f"msg_{'0' * 26}")):
        code, out, error = run(*command)
        assert (code, out) == (1, "")
        assert error.startswith("gateway: 404 unknown_")


@pytest.mark.parametrize(
    "arguments",
    [
        ("sagas",),
        ("sagas", "retry", "saga_1"),
        ("sagas", "resolve", "saga_1", "--reason", "x"),
        ("sagas", "list", "--state", "lost"),
        ("outbox", "replay"),
        ("outbox", "replay", "msg_1", "--since", "1h"),
        ("outbox", "replay", "--since", "soon"),
    ],
)
def test_a_wrong_command_line_is_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""
