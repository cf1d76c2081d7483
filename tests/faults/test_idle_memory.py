"""Connections that have carried large heads and bodies and are idle: the gateway keeps no more than it promises.

The figures are those of docs/performance.md, "What idle connections keep"; the load is that of
`python -m benchmarks.idle_memory`, with fewer connections.
"""

import sys

import pytest

from benchmarks.idle_memory import AT_ONCE, Row, measure
from gateway.wire.server.tls_buffers import MAX_GROWN, MOST_GROWN

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# What the process itself may take meanwhile: tables, log lines on their way, pieces of the heap between small objects.
_MARGIN = 24.0
# Of a TLS connection whose buffers have grown, in MiB.
_GROWN = 0.5


def grows(row: Row) -> tuple[float, float]:
    """By how many MiB, at most and while all are idle."""
    return row.peak - row.before, row.idle - row.before


def test_plain_connections_keep_nothing_large() -> None:
    row = measure("plain", 1000, 60)
    assert row.answers == {200: 1000}
    assert row.still_open == 1000
    peak, idle = grows(row)
    # 4 KiB each. Without the bound on heads they kept 168 KiB each: 164 MiB.
    assert idle < 4 + _MARGIN
    # Those in flight at once have their heads and parts of their bodies here.
    assert peak < 4 + _MARGIN + AT_ONCE * 0.5


@pytest.mark.parametrize("name", ["tls", "tls-refused"])
def test_tls_connections_with_grown_buffers_are_few(name: str) -> None:
    row = measure(name, 600, 90, idle_seconds=6)
    if name == "tls":
        assert row.answers == {200: 600}
    # One that loses its connection before its answer would be counted as 0.
    assert set(row.answers) <= {200, 404, 429}
    assert row.still_open <= MAX_GROWN
    peak, idle = grows(row)
    assert idle < MAX_GROWN * _GROWN + _MARGIN
    # Without a limit to what a burst may bring this was 300 MiB, and more with more connections.
    assert peak < (MOST_GROWN + AT_ONCE) * _GROWN + _MARGIN
