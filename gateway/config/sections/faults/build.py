"""From the settings of faults on demand to what they mean, and what is wrong with them."""

from gateway.config.building.sources import Sources
from gateway.config.sections.faults.model import FaultsConfig
from gateway.config.settings import Settings


def faults_config(sources: Sources, settings: Settings) -> FaultsConfig:
    """The domain type. Faults that nobody may set are reported."""
    if settings.faults.enabled and settings.admin.token is None:
        token = sources.place("admin").name(("token",))
        sources.place("faults").report(("enabled",), True, f"false, unless {token} is set: nobody else may set one")
    return FaultsConfig(**settings.faults.model_dump())
