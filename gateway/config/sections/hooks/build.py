"""`hooks` of a route: their code is loaded, and what is wrong with it is reported."""

from gateway.config.building.sources import Sources
from gateway.config.problems import shown
from gateway.config.sections.hooks.model import HookConfig, HookLimits
from gateway.config.sections.hooks.settings import Hooks
from gateway.config.sections.routes.settings import FileRoute
from gateway.hooks.loading import HookError, load


def hooks_of(sources: Sources, route: FileRoute, index: int) -> tuple[HookConfig, ...]:
    """The hooks of the route at `index` of the file that can be used; what is wrong with the others is reported."""
    own = sources.settings.hooks
    found: dict[str, HookConfig] = {}
    for place, entry in enumerate(route.hooks):
        location = ("routes", index, "hooks", place)
        name = entry.name or entry.use
        if name in found:
            allowed = "each name once on a route: give this one another, with name"
            sources.refuse(location, shown(name), allowed)
            continue
        try:
            code = load(entry.use, entry.settings, own.directory)
        except HookError as error:
            what = f"hook {shown(entry.use)} of route {shown(route.name)}: {error.found}"
            sources.refuse(location, what, error.allowed)
            continue
        found[name] = HookConfig(name, entry.use, code, entry.on_failure or own.on_failure, entry.settings)
    return tuple(found.values())


def hook_limits(hooks: Hooks) -> HookLimits:
    """The domain type."""
    return HookLimits(hooks.slow, hooks.failures, hooks.window, hooks.pause)
