"""The control plane in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """Who may change things, and where the control plane listens.

    `token` None: only direct loopback peers may. `port` None: the control plane shares the listener's port; otherwise
    everything of it but health is on `port` of `host` alone.
    """

    token: str | None = field(default=None, repr=False)
    port: int | None = None
    host: str = "127.0.0.1"
