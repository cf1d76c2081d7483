"""From what a route says about paths to what it means, and what is wrong with it."""

from gateway.config.building.sources import Sources
from gateway.config.problems import shown
from gateway.config.sections.rewrite.settings import RewriteRule
from gateway.syntax.path_template import PathRewrite, TemplateError


def rewrites_of(sources: Sources, rules: list[RewriteRule], route: int, *, later: bool) -> tuple[tuple[str, str], ...]:
    """The domain type. What is wrong with a rule of the route at this place of the file is reported. With `later` its
    requests are answered before an upstream is asked."""
    location = ("routes", route, "rewrite")
    if rules and later:
        allowed = "nothing on a route with deliver or workflow"
        sources.refuse(location, "a list", allowed)
    for place, rule in enumerate(rules):
        _check(sources, rule, (*location, place))
    return tuple((rule.path, rule.to) for rule in rules)


def _check(sources: Sources, rule: RewriteRule, location: tuple[str | int, ...]) -> None:
    for part, path, to in (("path", rule.path, "/"), ("to", rule.path, rule.to)):
        try:
            PathRewrite(path, to)
        except TemplateError as error:
            value = shown(getattr(rule, part))
            sources.refuse((*location, part), value, str(error))
            return
