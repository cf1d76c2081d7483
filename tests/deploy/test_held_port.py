"""New connections wait while the published port has no owner, and never for longer than that.

The firewall is one that only notes its rules. What the real one does to connections is tried with Docker.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.deploy.deployment import Deployment
from tests.deploy.test_several import order, scale
from tests.deploy.tools import tool
from tests.support.processes import ChildProcess
from tests.support.waiting import eventually

HOLD = "iptables -w 2 -t raw -I PREROUTING"
LET_GO = "iptables -w 2 -t raw -D PREROUTING"


def held_while(calls: list[str], *steps: str) -> None:
    """It begins before the first of the steps, ends after the last one, and happens once."""
    places = order(calls, HOLD, *steps, LET_GO)
    assert places == sorted(places), calls
    assert sum(call.startswith(HOLD) for call in calls) == sum(call.startswith(LET_GO) for call in calls) == 1


def not_held(deployment: Deployment) -> bool:
    return not any(call.startswith(("iptables", "ip6tables")) for call in deployment.docker.calls())


def test_while_a_single_gateway_is_replaced(deployed: Deployment) -> None:
    deployed.docker.source("two")
    assert deployed("prod")[0] == 0
    calls = deployed.docker.calls()
    held_while(calls, "replaced gw-one", "exec gw-two curl")
    assert f"--dport {deployed.port} --syn -m addrtype --dst-type LOCAL" in next(c for c in calls if c.startswith(HOLD))
    assert any(call.startswith("ip6tables") for call in calls)
    assert deployed.docker.rules() == []


def test_while_a_single_gateway_restarts(deployed: Deployment) -> None:
    assert deployed("restart")[0] == 0
    held_while(deployed.docker.calls(), "restart -t 45 gw-one")
    assert deployed.docker.rules() == []


def test_while_the_port_goes_from_one_gateway_to_nginx_and_back(deployed: Deployment) -> None:
    scale(deployed)
    assert deployed("prod")[0] == 0
    held_while(deployed.docker.calls(), "stop -t 45 gw-one", "connect --alias nginx")
    deployed.set_env(deployed.single)
    assert deployed("prod")[0] == 0
    held_while(deployed.docker.calls(), "stop nginx", "connect --alias proxy-service")
    assert deployed.docker.rules() == []


def test_not_while_several_are_replaced_behind_nginx(deployed: Deployment) -> None:
    scale(deployed)
    assert deployed("prod")[0] == 0
    deployed.docker.calls()
    deployed.docker.source("two")
    assert deployed("prod")[0] == 0
    assert deployed("restart")[0] == 0
    assert not_held(deployed)


def test_not_for_a_deployment_without_a_change(deployed: Deployment) -> None:
    assert deployed("prod")[0] == 0
    assert not_held(deployed)


def test_not_where_the_daemon_is_on_another_host(deployed: Deployment) -> None:
    deployed.docker.source("two")
    assert deployed("prod", DOCKER_HOST="ssh://docker.example")[0] == 0
    assert not_held(deployed)


def test_who_may_not_change_the_rules_deploys_all_the_same(deployed: Deployment) -> None:
    deployed.docker.source("two")
    deployed.docker.fault("no-firewall")
    status, output = deployed("prod")
    assert status == 0, output
    assert deployed.docker.running() == ["gw-two"]


def test_a_deployment_that_fails_lets_go(deployed: Deployment) -> None:
    deployed.docker.source("two")
    deployed.docker.fault("up")
    assert deployed("prod")[0] == 1
    assert deployed.docker.running() == ["gw-one"]
    assert deployed.docker.rules() == []


@pytest.fixture
def holding(deployed: Deployment) -> Iterator[ChildProcess]:
    """A deployment that does not get on while the port is held."""
    deployed.docker.source("two")
    deployed.docker.fault("slow-up")
    environment = deployed.docker.environment(**deployed.variables, HOLD_SECONDS="3")
    # What runs in the background (`nohup make test &`) is told to ignore these two, and so would deploy.sh be.
    command = [tool("env"), "--default-signal=INT,HUP", tool("bash"), "deploy.sh", "prod"]
    with ChildProcess("deploy.sh", command, env=environment, cwd=deployed.clone) as child:
        child.wait_until(lambda: len(deployed.docker.rules()) == 2, "holding the port")
        yield child
        deployed.docker.mend()


def test_it_ends_by_itself(deployed: Deployment, holding: ChildProcess) -> None:
    holding.wait_until(lambda: deployed.docker.rules() == [], "the end of the wait")
    deployed.docker.mend()
    assert holding.wait(30) == 0
    held_while(deployed.docker.calls())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_it_ends_with_a_deployment_that_is_interrupted(
    deployed: Deployment, holding: ChildProcess, how: signal.Signals
) -> None:
    # As a terminal does: to the whole group.
    os.killpg(holding.pid, how)
    deployed.docker.mend()
    assert holding.wait(30) != 0
    assert deployed.docker.running() == ["gw-one"]
    assert deployed.docker.rules() == []


def test_an_interrupt_while_the_rules_go_still_goes_back(deployed: Deployment, holding: ChildProcess) -> None:
    deployed.docker.fault("slow-firewall")
    deployed.docker.fault("up")
    (deployed.docker.directory / "faults/slow-up").unlink()
    holding.wait_until((deployed.docker.directory / "removing").exists, "letting go of the port")
    os.kill(holding.pid, signal.SIGTERM)
    deployed.docker.mend()
    assert holding.wait(30) != 0
    assert "going back to what ran before" in holding.output
    assert deployed.docker.running() == ["gw-one"]
    assert deployed.docker.rules() == []


def test_it_ends_with_a_deployment_that_is_killed(deployed: Deployment, holding: ChildProcess) -> None:
    os.kill(holding.pid, signal.SIGKILL)
    assert holding.wait(30) == -signal.SIGKILL
    eventually(lambda: deployed.docker.rules() == [], "the end of the wait")


def test_what_a_killed_holder_left_behind_goes_with_the_next_one(deployed: Deployment) -> None:
    deployed.docker.source("two")
    assert deployed("prod")[0] == 0
    added = next(call for call in deployed.docker.calls() if call.startswith(HOLD))
    (deployed.docker.directory / "rules/iptables").write_text(added.removeprefix("iptables -w 2 -t raw -I ") + "\n")
    assert deployed("restart")[0] == 0
    assert deployed.docker.rules() == []
