"""Side by side with peers: what a request costs here, and what it costs elsewhere, in one run on one machine.

The figure that survives noise is the CPU time of the proxy per completed request, as a ratio to a plain nginx measured
in the same round. The rest (rate, latency, memory) is for orientation. Nothing here is a test, and no test is timed.
"""

import sys
from pathlib import Path

# `python -m` puts the checkout first. An installed gateway goes before it: it may be a compiled one (`make build`).
_CHECKOUT = str(Path(__file__).resolve().parents[1])
if sys.path[0] == _CHECKOUT:
    sys.path.append(sys.path.pop(0))
