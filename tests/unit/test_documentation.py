"""What the documentation names is there, and what is there is named."""

import re
from pathlib import Path

import pytest

from gateway.reasons import REASONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
# The example of CONTRIBUTING.md, and what `make bench` writes.
NOT_HERE = {"gateway/proxy/gates/maintenance.py", "benchmarks/results/"}
NAMED = re.compile(r"`((?:gateway|tests|docs|benchmarks|monitoring|scripts|k8s|deploy)/[\w./-]+)`")
LINKED = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("reason", REASONS)
def test_the_contract_has_every_reason(reason: str) -> None:
    assert f"`{reason}`" in (ROOT / "docs/behaviour.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = {ROOT / each for each in NAMED.findall(text) if each not in NOT_HERE}
    linked = {(ROOT / page).parent / each for each in LINKED.findall(text)}
    assert [str(path.relative_to(ROOT)) for path in named | linked if not path.exists()] == []
