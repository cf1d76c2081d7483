"""The validation of requests in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.validation.rules import Rules


@dataclass(frozen=True, slots=True)
class RouteValidation:
    """What the requests of a route must be. With `enforce` False what is invalid is counted and passes. No more than
    `max_body_bytes` of a body are held. `refuse_unknown` is about operations that the rules do not know."""

    file: str
    rules: "Rules" = field(repr=False, compare=False)
    enforce: bool = True
    max_body_bytes: int = 1_048_576
    refuse_unknown: bool = True


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """What is the same for all routes that validate: whether they may refuse anything (`strict`), seconds for a large
    body, and whether each invalid request has a line in the application log."""

    strict: bool = True
    timeout: float = 1.0
    log_errors: bool = False
