"""Python hooks: what holds for all of them, and what a route of the file says about one."""

import re
from typing import Annotated, Any, Final, Literal

from annotated_types import Interval
from pydantic import AfterValidator, Field

from gateway.config.declaring import addresses
from gateway.config.declaring.field_types import Name
from gateway.config.declaring.section import Allowed, Env, Meaning, Seconds, Section

_USE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_USE_ALLOWED: Final = "module:attribute, such as my_hooks:NeedsTeam"
HOOK_ALLOWED: Final = f"{_USE_ALLOWED}, or {{use, name, on_failure, settings}}"


def _use(text: str) -> str:
    return text if len(text) <= 255 and _USE.fullmatch(text) else addresses.reject(_USE_ALLOWED)


def hook_entry(value: object) -> object:
    """Where only the code is named, a mapping that names it."""
    return {"use": value} if isinstance(value, str) else value


class Hooks(Section):
    """Python hooks"""

    directory: Annotated[
        str,
        Field(min_length=1),
        Allowed("the path of a directory"),
        Env("HOOKS_DIR", "Where the modules of hooks are, besides those of installed packages"),
    ] = "."
    on_failure: Annotated[
        Literal["refuse", "skip"],
        Env("HOOKS_ON_FAILURE", "What becomes of a request for which a hook fails, unless the hook's entry says so"),
    ] = "refuse"
    slow: Annotated[
        Seconds,
        Interval(ge=0.0001, le=60),
        Env("HOOKS_SLOW_SECONDS", "A call that takes so long is slow; all other requests have waited for it"),
    ] = 0.05
    failures: Annotated[
        int,
        Interval(ge=1, le=1_000_000),
        Env("HOOKS_FAILURES", "Slow or failed calls that switch a hook off, when they are half of all"),
    ] = 10
    window: Annotated[
        Seconds, Interval(ge=0.1, le=3600), Env("HOOKS_WINDOW_SECONDS", "Within which they are counted")
    ] = 10.0
    pause: Annotated[
        Seconds, Interval(ge=0.1, le=3600), Env("HOOKS_PAUSE_SECONDS", "How long a hook is switched off")
    ] = 30.0


class HookEntry(Section):
    """One hook of a route."""

    use: Annotated[
        str, AfterValidator(_use), Allowed(_USE_ALLOWED), Meaning("Where the code is, as `module:attribute`")
    ]
    name: Annotated[
        Name | None, Allowed("a name"), Meaning("Label in logs and metrics, unique on the route", "what `use` says")
    ] = None
    on_failure: Annotated[
        Literal["refuse", "skip"] | None, Meaning("What becomes of a request for which it fails", "`HOOKS_ON_FAILURE`")
    ] = None
    settings: Annotated[dict[str, Any], Allowed("a mapping"), Meaning("What its class is called with", "nothing")] = (
        Field(default_factory=dict)
    )
