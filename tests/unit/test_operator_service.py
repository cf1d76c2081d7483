"""`gateway reload`, `gateway upgrade` and `gateway check --diff`: what they print, and their exit status."""

import argparse
from typing import Any, cast

import pytest

from gateway.operator import service
from gateway.operator.client import Client


class Answering:
    """A control plane that answers an order with this."""

    def __init__(self, **answer: Any) -> None:
        self.answer = {"action": "reload", "done": False, "underWay": False, "differences": [], "notices": [], **answer}

    def post(self, path: str, body: dict[str, bool]) -> dict[str, Any]:
        assert path == f"/api/admin/{self.answer['action']}"
        return self.answer


def reload(client: Answering, capsys: pytest.CaptureFixture[str], **options: bool) -> tuple[int, list[str]]:
    arguments = argparse.Namespace(**{"dry_run": False, "json": False, **options})
    code = service.reload(cast("Client", client), arguments)
    return code, capsys.readouterr().out.splitlines()


def test_what_a_reload_has_changed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert reload(Answering(done=True, differences=["a: 1 -> 2"]), capsys) == (0, ["reload: done", "  a: 1 -> 2"])
    assert reload(Answering(done=True), capsys) == (0, ["reload: done", "  no setting is another one"])
    assert reload(Answering(), capsys, dry_run=True) == (0, ["reload: would change", "  no setting is another one"])


@pytest.mark.parametrize("options", [{}, {"dry_run": True}, {"json": True}])
def test_a_reload_of_which_nothing_is_known_yet_claims_nothing(
    capsys: pytest.CaptureFixture[str], options: dict[str, bool]
) -> None:
    code, lines = reload(Answering(underWay=True), capsys, **options)
    assert code == 1
    if "json" not in options:
        assert lines == ["reload: not known yet, because it is still under way: see `gateway status` and the log"]


@pytest.mark.parametrize(("under_way", "code", "said"), [(False, 0, "upgrade: done"), (True, 1, "upgrade: not known")])
def test_an_upgrade_of_which_nothing_is_known_yet_claims_nothing(
    capsys: pytest.CaptureFixture[str], under_way: bool, code: int, said: str
) -> None:
    client = Answering(action="upgrade", done=not under_way, underWay=under_way)
    assert service.upgrade(cast("Client", client), argparse.Namespace(dry_run=False, json=False)) == code
    assert capsys.readouterr().out.startswith(said)
