"""`validate` of a route: its files are read and compiled, and what is wrong with them is reported."""

from typing import TYPE_CHECKING

from gateway.config.building.sources import Sources
from gateway.config.problems import Notice, shown
from gateway.config.sections.routes.settings import FileRoute
from gateway.config.sections.validation.model import RouteValidation
from gateway.config.sections.validation.settings import Validate

if TYPE_CHECKING:
    from gateway.validation.rules import Rules


def validation_of(sources: Sources, route: FileRoute, index: int) -> RouteValidation | None:
    """What the requests of the route at `index` of the file must be; None where it does not say, or where something is
    wrong with it, which is reported."""
    wanted = route.validate
    location = ("routes", index, "validate")
    if wanted.schema is None and wanted.openapi is None:
        if wanted != Validate():
            sources.refuse(location, "a mapping", "only with schema or openapi, which name a file")
        return None
    if wanted.schema is not None and wanted.openapi is not None:
        sources.refuse((*location, "openapi"), shown(wanted.openapi), "only without schema: one of the two")
        return None
    rules = _rules(sources, wanted, location)
    if rules is None:
        return None
    if not sources.settings.validation.strict and wanted.mode == "enforce":
        sources.notices.append(
            Notice(sources.tree.source(location), "VALIDATION_STRICT_MODE is false: invalid requests pass")
        )
    return RouteValidation(
        rules.file,
        rules,
        enforce=wanted.mode == "enforce",
        max_body_bytes=wanted.max_body_bytes,
        refuse_unknown=wanted.unknown_operation == "refuse",
    )


def _rules(sources: Sources, wanted: Validate, location: tuple[str | int, ...]) -> "Rules | None":
    from gateway.validation import schemas  # noqa: PLC0415 - only where a route validates
    from gateway.validation.kinds import rules_of  # noqa: PLC0415

    kind, file = ("schema", wanted.schema) if wanted.schema is not None else ("openapi", wanted.openapi or "")
    place = (*location, kind)
    if not schemas.available():
        sources.refuse(place, shown(file), f"only with the extra for validation: {schemas.INSTALL}")
        return None
    try:
        rules = rules_of(kind, file, sources.texts.read)
    except schemas.SchemaError as error:
        where = f"{error.where}: " if error.where else ""
        what = "a JSON Schema" if kind == "schema" else "an OpenAPI document"
        sources.refuse(place, shown(file), f"{what} that can be used; {where}{error}")
        return None
    sources.notices += [Notice(sources.tree.source(place), text) for text in rules.notices]
    return rules
