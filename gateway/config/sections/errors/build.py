"""From the settings of errors and alerts to what they mean, and what is wrong with them."""

from gateway.config.building.sources import Sources
from gateway.config.sections.errors.model import ErrorsConfig
from gateway.config.settings import Settings


def errors_config(sources: Sources, settings: Settings) -> ErrorsConfig:
    """The domain type. A secret without a webhook is reported."""
    errors, place = settings.errors, sources.place("errors")
    if errors.webhook_secret is not None and errors.webhook_url is None:
        place.report(("webhook_secret",), errors.webhook_secret, f"only with {place.name(('webhook_url',))}")
    return ErrorsConfig(**errors.model_dump())
