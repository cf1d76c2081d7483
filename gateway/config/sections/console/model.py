"""The console, as the rest of the program sees its settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """With `auth` "token" whoever reads the API behind the console needs the token, too. `dashboards_url` is where the
    console links to for more history, None for nowhere. `top_clients` is how many of the busiest clients of each rate
    limit are kept by each worker; 0: none."""

    auth: str = "none"
    dashboards_url: str | None = None
    top_clients: int = 100
