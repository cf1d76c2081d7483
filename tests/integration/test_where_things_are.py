"""What a newcomer is told: `/` names what is there, and every example of the documentation works as it stands."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.deploy.tools import tool
from tests.support.ports import free_port
from tests.support.processes import clean_environment
from tests.support.stub_process import StubProcess

TOKEN = "correct-horse-battery-staple"


def settings(stub: StubProcess, token: str = "") -> dict[str, str]:
    return {"UPSTREAM_URL": stub.url, "SERVICE_NAME": "edge", "ADMIN_TOKEN": token}


def test_the_root_says_what_is_there(shared_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = shared_gateway(settings(stub))
    answer = gateway.get("/")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert (answer.json()["service"], answer.json()["routes"]) == ("edge", ["/proxy/"])
    for path in answer.json()["links"].values():
        assert gateway.get(path).status == 200
    page = gateway.get("/?x=1", {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["Content-Type"].startswith("text/html")
    assert '<a href="/api/docs">' in page.body.decode()
    assert gateway.request("POST", "/").status == 405
    assert gateway.get("/nowhere").status == 404


@pytest.mark.parametrize("host", ["", ", host: other.example"])
def test_a_route_of_the_root_goes_before(
    start_gateway: StartGateway, stub: StubProcess, tmp_path: Path, host: str
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f"upstreams:\n  a:\n    endpoints: ['127.0.0.1:{stub.port}']\n"
        f"routes:\n  - {{name: all, prefix: /, upstream: a{host}}}\n"
    )
    answer = start_gateway({"GATEWAY_CONFIG": str(config)}).get("/", {"Host": "other.example"})
    assert b"/api/docs" not in answer.body


def test_with_a_port_of_its_own_the_control_plane_is_not_named_to_clients(
    start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = start_gateway({"UPSTREAM_URL": stub.url, "ADMIN_PORT": str(free_port())})
    assert gateway.get("/").status == 404


def samples(document: dict[str, Any]) -> dict[str, str]:
    return {
        operation["operationId"]: operation["x-codeSamples"][0]["source"]
        for methods in document["paths"].values()
        for operation in methods.values()
    }


@pytest.mark.parametrize("token", ["", TOKEN])
def test_every_example_works_as_it_stands(shared_gateway: StartGateway, stub: StubProcess, token: str) -> None:
    tool("curl")
    gateway = shared_gateway(settings(stub, token))
    found = samples(gateway.get("/api/openapi.json").json())
    endpoint = f"127.0.0.1:{stub.port}"
    environ = clean_environment(GATEWAY_URL=gateway.url, ADMIN_TOKEN=token, ENDPOINT=endpoint)
    assert len(found) >= 20
    for name, source in found.items():
        done = subprocess.run(
            ["bash", "-c", f"{source} -o /dev/null -w '%{{http_code}}'"],
            env=environ, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (name, done.returncode, done.stdout) == (name, 0, "200"), source
        assert token == "" or token not in source


def test_the_page_keeps_its_link_and_shows_the_examples(
    shared_gateway: StartGateway, stub: StubProcess, tmp_path: Path
) -> None:
    gateway = shared_gateway(settings(stub))
    page = gateway.get("/api/docs").body.decode()
    (tmp_path / "document.json").write_bytes(gateway.get("/api/openapi.json").body)
    (tmp_path / "page.js").write_text(page.partition("<script>")[2].partition("</script>")[0])
    (tmp_path / "run.js").write_text(_BROWSER)
    node = subprocess.run(["which", "node"], capture_output=True, check=False)
    if node.returncode:
        pytest.skip("node is not installed")
    done = subprocess.run(["node", "run.js"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    shown = json.loads(done.stdout)
    assert "`" not in shown["about"]
    assert "/api/openapi.json" in shown["links"]
    assert "Authorization: Bearer $ADMIN_TOKEN" in shown["code"]
    assert 'curl -s "http://gateway.example/health"' in shown["text"]


# As much of a browser as the page uses.
_BROWSER = """
const fs = require("fs");
class Element {
  constructor(tag) { this.tag = tag; this.nodes = []; this.href = ""; }
  set textContent(text) { this.nodes = [text]; }
  append(...nodes) { this.nodes.push(...nodes); }
  appendChild(node) { this.nodes.push(node); return node; }
  replaceChildren(...nodes) { this.nodes = nodes; }
  addEventListener(name, run) { run(); }
  get lastChild() { return this.nodes[this.nodes.length - 1]; }
  get text() { return this.nodes.map(node => typeof node === "string" ? node : node.text).join(""); }
  all(tag) {
    const own = this.nodes.filter(node => typeof node !== "string");
    return [...own.filter(node => node.tag === tag), ...own.flatMap(node => node.all(tag))];
  }
}
const known = { about: new Element("div"), operations: new Element("main") };
globalThis.document = { createElement: tag => new Element(tag), getElementById: name => known[name] };
globalThis.location = { origin: "http://gateway.example" };
const answer = JSON.parse(fs.readFileSync("document.json", "utf8"));
globalThis.fetch = async () => ({ json: async () => answer });
(0, eval)(fs.readFileSync("page.js", "utf8"));
setTimeout(() => {
  const parts = Object.values(known);
  process.stdout.write(JSON.stringify({
    about: known.about.text,
    text: parts.map(part => part.text).join("\\n"),
    links: parts.flatMap(part => part.all("a")).map(link => link.href),
    code: parts.flatMap(part => part.all("code")).map(each => each.text),
  }));
}, 50);
"""
