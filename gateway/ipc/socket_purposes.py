"""What a listening socket is for. Supervisor and workers say it in these words."""

from typing import Final

LISTENER: Final = "listener"
"""Requests."""
ADMIN: Final = "admin"
"""The control plane on a port of its own (`ADMIN_PORT`)."""
