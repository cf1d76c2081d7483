"""The settings of the control plane."""

from typing import Annotated

from pydantic import Field

from gateway.config.declaring.field_types import AdminToken, Host, Port
from gateway.config.declaring.section import Env, Section


class Admin(Section):
    """The control plane"""

    token: Annotated[
        AdminToken | None,
        Env(
            "ADMIN_TOKEN",
            "What a request that changes something must bear",
            "only from loopback, in production nobody",
            secret=True,
        ),
    ] = Field(default=None, repr=False)
    port: Annotated[
        Port | None,
        Env("ADMIN_PORT", "TCP port of the control plane; /health, /livez and /readyz are on both", "the same as PORT"),
    ] = None
    host: Annotated[Host, Env("ADMIN_HOST", "Address to listen on with ADMIN_PORT")] = "127.0.0.1"
