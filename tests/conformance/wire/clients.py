"""What integration tests of the data plane share beyond the harness: gateways with a plain configuration."""

from collections.abc import Mapping

from tests.conformance.wire.conftest import PLAIN

__all__ = ["plain"]


def plain(upstream_url: str, **changes: str) -> Mapping[str, str]:
    """Variables for a gateway in front of this upstream, with no protections but those asked for."""
    return {**PLAIN, "UPSTREAM_URL": upstream_url, **changes}
