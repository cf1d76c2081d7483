"""The tests use the gateway that is installed in their environment, which may be a compiled one (`make build`).

`python -m pytest` puts the checkout first on the path, and then the tests would import its sources in any case. Moved
to the end, it is used for the tests themselves, and for the gateway where none is installed.
"""

import sys
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]
_OTHERS = [entry for entry in sys.path if Path(entry).resolve() != _CHECKOUT]
sys.path[:] = [*_OTHERS, str(_CHECKOUT)]
