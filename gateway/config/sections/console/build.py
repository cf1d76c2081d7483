"""The settings of the console, checked."""

from gateway.config.building.place import Place
from gateway.config.sections.console.model import ConsoleConfig
from gateway.config.sections.console.settings import Console


def console_config(console: Console, token: str | None, place: Place) -> ConsoleConfig:
    """The settings, checked: a token can be asked for only where there is one."""
    if console.auth == "token" and token is None:
        place.report(("auth",), console.auth, "only with ADMIN_TOKEN")
    return ConsoleConfig(**console.model_dump())
