"""Fixtures that several modules of this suite use. Each module has its own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from gateway.cli import main
from tests.conformance.wire.upstream import ProgrammedUpstream
from tests.support.certificates import Certificate, make_certificate

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for localhost."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def upstream() -> Iterator[ProgrammedUpstream]:
    """An upstream without TLS that does what each test tells it to."""
    with ProgrammedUpstream() as running:
        yield running


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Carries out a command of `gateway` with these arguments, in an empty directory and with no variables but these.

    It does so within this process: to start another one for it would take most of a second.
    """

    def run(*arguments: str, **environ: str) -> CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in environ.items():
                patch.setenv(name, value)
            try:
                status = main(arguments)
            except SystemExit as end:  # argparse
                status = int(end.code or 0)
        return CompletedProcess(arguments, status, *capsys.readouterr())

    return run
