"""From the settings of logs to what they mean, and what is wrong with them."""

from gateway.config.building.file_checks import check_directory
from gateway.config.building.sources import Sources
from gateway.config.sections.log.model import LogConfig
from gateway.config.settings import Settings


def log_config(sources: Sources, settings: Settings) -> LogConfig:
    """The domain type. A directory that cannot be written is reported."""
    check_directory(settings.log.dir, ("dir",), sources.place("log"))
    return LogConfig(**settings.log.model_dump())
