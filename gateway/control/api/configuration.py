"""`/api/resilience/configuration`: every setting in effect and where it comes from. For operators alone."""

from typing import Annotated, Any

from pydantic import Field

from gateway.control.api.operation import Call, Operation
from gateway.control.models.shapes import Answer, Nothing
from gateway.control.parts import ControlledGateway


class Setting(Answer):
    """One setting. Secrets are masked."""

    setting: Annotated[str, Field(description="A variable, or a place in the YAML file")]
    value: str
    source: Annotated[str, Field(description="default, environment NAME, or file:line")]
    is_default: bool


class Configuration(Answer):
    """What is in effect."""

    config_hash: Annotated[str | None, Field(description="Equal where the configuration is")]
    count: int
    settings: list[Setting]


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operation that shows the configuration."""

    async def configuration(_: Call[Nothing, Nothing]) -> Configuration:
        """The configuration in effect."""
        host = gateway.view.host
        settings = [
            Setting(setting=each.setting, value=each.value, source=each.source, is_default=each.is_default)
            for each in gateway.settings
        ]
        return Configuration(
            config_hash=(host.config_hash or None) if host is not None else None, count=len(settings), settings=settings
        )

    return [
        Operation(
            "GET", "/api/resilience/configuration", "getConfiguration", "Every setting, and where it comes from",
            Configuration, configuration, Nothing, Nothing, private=True,
        )
    ]  # fmt: skip
