"""From validated settings and file to the domain types: the `build` of each section is called here.

Precedence, for whatever belongs to an upstream, a rate limit or a route: the file, then the environment, then the
default. Where the file defines routes, the environment's `/proxy/` route and its upstream `default` are there only if
`UPSTREAM_URL` is set: a gateway with routes of its own must not open one that nobody asked for.
"""

from collections.abc import Iterable
from types import MappingProxyType

from pydantic import ValidationError

from gateway.config.building.notices import literal_stars, unused
from gateway.config.building.place import Steps
from gateway.config.building.relations import check_queue, settled
from gateway.config.building.sources import Sources
from gateway.config.file import File
from gateway.config.model import GatewayConfig
from gateway.config.problems import shown
from gateway.config.sections.admin.build import admin_config
from gateway.config.sections.console.build import console_config
from gateway.config.sections.deliver.build import outbox_config
from gateway.config.sections.errors.build import errors_config
from gateway.config.sections.faults.build import faults_config
from gateway.config.sections.hedge.build import late_hedges
from gateway.config.sections.hooks.build import hook_limits
from gateway.config.sections.idempotency.build import limits_config
from gateway.config.sections.identity.build import caller_notices, identity_of, limits_used
from gateway.config.sections.identity.model import Method
from gateway.config.sections.issuers.build import check_issuers_of_environment, check_issuers_of_routes
from gateway.config.sections.journal.build import journal_of
from gateway.config.sections.journal.model import SqliteConfig
from gateway.config.sections.log.build import log_config
from gateway.config.sections.rate_limits.build import policies_of, rate_limit_config
from gateway.config.sections.redis.build import redis_config
from gateway.config.sections.routes.build import file_routes, routes_of
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.server.build import server_config
from gateway.config.sections.shedding.build import shedding_config
from gateway.config.sections.tracing.build import tracing_config
from gateway.config.sections.upstreams.build import UPSTREAM_PAIRS, upstreams_of
from gateway.config.sections.validation.model import ValidationConfig
from gateway.config.sections.workers.model import WorkersConfig
from gateway.config.sections.workflows.build import sagas_config, workflows_of

SETTINGS_PAIRS: tuple[tuple[Steps, Steps], ...] = (
    (("routes", "max_tunnels"), ("server", "max_connections")),
    (("errors", "high_error_rate"), ("errors", "critical_error_rate")),
    (("tracing", "batch"), ("tracing", "queue")),
    *((("upstream", *lower), ("upstream", *upper)) for lower, upper in UPSTREAM_PAIRS),
)


def assemble(sources: Sources) -> GatewayConfig:
    """The configuration in effect.

    What is wrong is added to `sources.problems` and replaced by something valid, so that one run finds all problems.
    The result is to be used only if there are none.
    """
    file = _file(sources)
    place = sources.place()
    settings = settled(sources.settings, SETTINGS_PAIRS, place)
    check_queue(settings.upstream.bulkhead, ("upstream", "bulkhead"), place)
    policies = policies_of(sources, file)
    known_policies = list(dict.fromkeys([*policies, *file.rate_limits]))
    of_file = file_routes(sources, file)
    own_route = "UPSTREAM_URL" in sources.variables.given or not file.routes
    upstreams = upstreams_of(sources, file, settings.upstream, own_route=own_route)
    known_upstreams = list(dict.fromkeys([*upstreams, *file.upstreams]))
    workflows = workflows_of(sources, file.workflows, upstreams, known_upstreams)
    known = {"upstream": known_upstreams, "rate_limit": known_policies, "workflow": list(file.workflows)}
    routes = routes_of(sources, settings, of_file, workflows, known, own_route=own_route)
    sources.notices += literal_stars(sources.tree, ((index, route.prefix) for index, route in of_file))
    sources.notices += late_hedges(sources, routes, [index for index, _ in of_file], upstreams)
    who = identity_of(sources, settings, file, known_policies)
    limits = limits_used(who)
    sources.notices += unused(sources.tree, routes, workflows, limited=settings.rate_limit.enabled, limits=limits)
    redis = redis_config(settings.redis, sources.place("redis"))
    sources.notices += caller_notices(sources, who, _ways(routes), shared=redis is not None)
    check_issuers_of_routes(sources, of_file, list(file.issuers))
    check_issuers_of_environment(sources, list(file.issuers))
    journal, journal_needed = journal_of(sources, settings, routes)
    return GatewayConfig(
        service=settings.process.service_name,
        environment=settings.process.environment,
        server=server_config(sources, settings.server),
        shedding=shedding_config(sources, settings.shedding, routes, who),
        rate_limits=rate_limit_config(settings.rate_limit, policies),
        upstreams=MappingProxyType(upstreams),
        routes=tuple(routes),
        redis=redis,
        log=log_config(sources, settings),
        errors=errors_config(sources, settings),
        admin=admin_config(sources, settings),
        retry_buffer_bytes=settings.retry_buffer.buffer_bytes,
        workers=WorkersConfig(settings.workers.count, settings.workers.stall),
        identity=who,
        journal=journal,
        journal_needed=journal_needed,
        idempotency=limits_config(settings.idempotency, sqlite=isinstance(journal, SqliteConfig)),
        validation=ValidationConfig(**settings.validation.model_dump()),
        outbox=outbox_config(settings.outbox),
        tracing=tracing_config(settings.tracing, sources.place("tracing")),
        console=console_config(settings.console, settings.admin.token, sources.place("console")),
        workflows=MappingProxyType(workflows),
        sagas=sagas_config(settings.sagas),
        faults=faults_config(sources, settings),
        hooks=hook_limits(settings.hooks),
    )


def _file(sources: Sources) -> File:
    root = sources.tree.root
    if root is None:
        return File()
    if not isinstance(root, dict):
        sources.refuse((), shown(root), f"a mapping with {', '.join(File.model_fields)}")
        return File()
    present = {key: value for key, value in root.items() if value is not None or key not in File.model_fields}
    try:
        return File.model_validate(present, strict=True)
    except ValidationError as error:
        for detail in error.errors():
            sources.report(File, detail, "", ())
            present.pop(detail["loc"][0], None)
        return File.model_validate(present, strict=True)


def _ways(routes: Iterable[RouteConfig]) -> set[Method]:
    """In which ways the clients of some route say who they are."""
    return {way for route in routes for way in route.authentication}
