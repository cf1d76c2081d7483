"""The settings of the console."""

from typing import Annotated, Literal

from annotated_types import Interval

from gateway.config.declaring.field_types import WebhookUrl
from gateway.config.declaring.section import Env, Section


class Console(Section):
    """The console"""

    auth: Annotated[
        Literal["none", "token"],
        Env("CONSOLE_AUTH", "token: reading /api/resilience needs the ADMIN_TOKEN, too, and so does the console"),
    ] = "none"
    dashboards_url: Annotated[
        WebhookUrl | None, Env("CONSOLE_DASHBOARDS_URL", "Where the console links to for more history", "no link")
    ] = None
    top_clients: Annotated[
        int,
        Interval(ge=0, le=1000),
        Env("TOP_CLIENTS", "Busiest clients of each rate limit that are kept, for operators alone; 0 is off"),
    ] = 100
