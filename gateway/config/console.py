"""The settings of the console, checked."""

from gateway.config.checks import Place
from gateway.config.console_model import ConsoleConfig
from gateway.config.console_settings import Console


def console_config(console: Console, token: str | None, place: Place) -> ConsoleConfig:
    """The settings, checked: a token can be asked for only where there is one."""
    if console.auth == "token" and token is None:
        place.report(("auth",), console.auth, "only with ADMIN_TOKEN")
    return ConsoleConfig(**console.model_dump())
