"""Fixtures that several modules of this suite use. Each module has its own."""

from collections.abc import Iterator

import pytest

from tests.conformance.wire.upstream import ProgrammedUpstream
from tests.support.certificates import Certificate, make_certificate


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for localhost."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def upstream() -> Iterator[ProgrammedUpstream]:
    """An upstream without TLS that does what each test tells it to."""
    with ProgrammedUpstream() as running:
        yield running
