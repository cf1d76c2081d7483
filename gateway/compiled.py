"""Whether the modules on the path of a request run compiled (`make build`, the Docker image) or interpreted.

This module is compiled together with them, so where it was loaded from tells.
"""

from typing import Final

COMPILED: Final = not __file__.endswith(".py")
HOW: Final = "compiled" if COMPILED else "interpreted"
