"""From the settings of the control plane to what they mean, and what is wrong with them."""

from gateway.config.building.sources import Sources
from gateway.config.sections.admin.model import AdminConfig
from gateway.config.settings import Settings


def admin_config(sources: Sources, settings: Settings) -> AdminConfig:
    """The domain type. A port that the listener has already is reported."""
    admin, place = settings.admin, sources.place("admin")
    if admin.port == settings.server.port:
        place.report(("port",), admin.port, f"another port than {sources.place('server').name(('port',))}")
    return AdminConfig(**admin.model_dump())
