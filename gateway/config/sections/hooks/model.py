"""Python hooks in the effective configuration (see `gateway.config.model`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.hooks.loading import HookCode

OnFailure = Literal["refuse", "skip"]


@dataclass(frozen=True, slots=True)
class HookConfig:
    """One hook of a route. `name` is its label, `use` says where its `code` is. `on_failure` says what becomes of a
    request or an answer when the hook fails for it. Values of `settings` may be secrets."""

    name: str
    use: str
    code: HookCode = field(compare=False)
    on_failure: OnFailure = "refuse"
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class HookLimits:
    """What is the same for all hooks. A call of `slow` seconds is slow. When `failures` calls within `window` seconds
    were slow or have failed, and they are half of all, the hook is not called for `pause` seconds."""

    slow: float = 0.05
    failures: int = 10
    window: float = 10.0
    pause: float = 30.0
