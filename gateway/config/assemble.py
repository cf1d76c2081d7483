"""From validated settings and file to the domain types.

Precedence, for whatever belongs to an upstream, a rate limit or a route: the file, then the environment, then the
default. Where the file defines routes, the environment's `/proxy/` route and its upstream `default` are there only if
`UPSTREAM_URL` is set: a gateway with routes of its own must not open one that nobody asked for.
"""

from collections.abc import Iterable
from types import MappingProxyType

from pydantic import ValidationError

from gateway.config import checks, identity, issuers
from gateway.config.console import console_config
from gateway.config.deliver import outbox_config
from gateway.config.fault_model import FaultsConfig
from gateway.config.file import File
from gateway.config.hooks import hook_limits
from gateway.config.idempotency_settings import limits_config
from gateway.config.identity_file import NO_LIMIT
from gateway.config.identity_model import IdentityConfig, Method
from gateway.config.journal import check_journal, journal_config
from gateway.config.model import (
    AdminConfig,
    ErrorsConfig,
    GatewayConfig,
    JournalConfig,
    ListenerTls,
    LogConfig,
    RateLimitConfig,
    RouteConfig,
    ServerConfig,
    ValidationConfig,
    WorkersConfig,
)
from gateway.config.notices import literal_stars, unused
from gateway.config.problems import Problem, shown
from gateway.config.redis_settings import redis_config
from gateway.config.routes import file_routes, routes_of
from gateway.config.settings import RateLimit, RateLimits, Server, Settings
from gateway.config.shedding_model import SheddingConfig
from gateway.config.shedding_settings import Shedding
from gateway.config.sources import Sources
from gateway.config.tracing import tracing_config
from gateway.config.upstreams import DEFAULT, upstreams_of
from gateway.config.workflows import sagas_config, workflows_of
from gateway.policy.limit import LimitSettings
from gateway.policy.token_bucket import RateLimitPolicy


def assemble(sources: Sources) -> GatewayConfig:
    """The configuration in effect.

    What is wrong is added to `sources.problems` and replaced by something valid, so that one run finds all problems.
    The result is to be used only if there are none.
    """
    file = _file(sources)
    place = sources.place()
    settings = checks.settled(sources.settings, checks.SETTINGS_PAIRS, place)
    checks.queue(settings.upstream.bulkhead, ("upstream", "bulkhead"), place)
    policies = _policies(sources, file)
    known_policies = list(dict.fromkeys([*policies, *file.rate_limits]))
    of_file = file_routes(sources, file)
    own_route = "UPSTREAM_URL" in sources.variables.given or not file.routes
    upstreams = upstreams_of(sources, file, settings.upstream, own_route=own_route)
    known_upstreams = list(dict.fromkeys([*upstreams, *file.upstreams]))
    workflows = workflows_of(sources, file.workflows, upstreams, known_upstreams)
    known = {"upstream": known_upstreams, "rate_limit": known_policies, "workflow": list(file.workflows)}
    routes = routes_of(sources, settings, of_file, workflows, known, own_route=own_route)
    sources.notices += literal_stars(sources.tree, ((index, route.prefix) for index, route in of_file))
    who = identity.identity_of(sources, settings, file, known_policies)
    limits = identity.limits_used(who)
    sources.notices += unused(sources.tree, routes, workflows, limited=settings.rate_limit.enabled, limits=limits)
    redis = redis_config(settings.redis, sources.place("redis"))
    sources.notices += identity.notices(sources, who, _ways(routes), shared=redis is not None)
    issuers.check_routes(sources, of_file, list(file.issuers))
    issuers.check_environment(sources, list(file.issuers))
    journal, journal_needed = _journal(sources, settings, routes)
    return GatewayConfig(
        service=settings.process.service_name,
        environment=settings.process.environment,
        server=_server(sources, settings.server),
        shedding=_shedding(sources, settings.shedding, routes, who),
        rate_limits=_rate_limits(settings.rate_limit, policies),
        upstreams=MappingProxyType(upstreams),
        routes=tuple(routes),
        redis=redis,
        log=_log(sources, settings),
        errors=_errors(sources, settings),
        admin=_admin(sources, settings),
        retry_buffer_bytes=settings.retry_buffer.buffer_bytes,
        workers=WorkersConfig(settings.workers.count, settings.workers.stall),
        identity=who,
        journal=journal,
        journal_needed=journal_needed,
        idempotency=limits_config(settings.idempotency, sqlite=journal.path is not None),
        validation=ValidationConfig(**settings.validation.model_dump()),
        outbox=outbox_config(settings.outbox),
        tracing=tracing_config(settings.tracing, sources.place("tracing")),
        console=console_config(settings.console, settings.admin.token, sources.place("console")),
        workflows=MappingProxyType(workflows),
        sagas=sagas_config(settings.sagas),
        faults=_faults(sources, settings),
        hooks=hook_limits(settings.hooks),
    )


def _file(sources: Sources) -> File:
    root = sources.tree.root
    if root is None:
        return File()
    if not isinstance(root, dict):
        sources.problems.append(
            Problem(
                sources.tree.source(()),
                shown(root),
                f"a mapping with {', '.join(File.model_fields)}",
            )
        )
        return File()
    present = {key: value for key, value in root.items() if value is not None or key not in File.model_fields}
    try:
        return File.model_validate(present, strict=True)
    except ValidationError as error:
        for detail in error.errors():
            sources.report(File, detail, "", ())
            present.pop(detail["loc"][0], None)
        return File.model_validate(present, strict=True)


def _policies(sources: Sources, file: File) -> dict[str, RateLimitPolicy]:
    own = sources.settings.rate_limit
    defaults = {key: getattr(own, key) for key in RateLimit.model_fields}
    named = sources.named(file.rate_limits, "rate_limits")
    entries = {
        name: checks.bucket_lifetime(entry, sources.place("rate_limit", location=("rate_limits", name)))
        for name, entry in sources.entries(RateLimit, named, "rate_limits", defaults)
    }
    if DEFAULT not in file.rate_limits:
        own = checks.bucket_lifetime(own, sources.place("rate_limit"))
    if NO_LIMIT in file.rate_limits:
        source = sources.tree.source(("rate_limits", NO_LIMIT))
        sources.problems.append(Problem(source, shown(NO_LIMIT), "another name: on a route it means no limit"))
    return {
        name: RateLimitPolicy(name, entry.capacity, entry.refill_rate, entry.ttl)
        for name, entry in ({DEFAULT: own} | entries).items()
    }


def _ways(routes: Iterable[RouteConfig]) -> set[Method]:
    """In which ways the clients of some route say who they are."""
    return {way for route in routes for way in route.authentication}


def _rate_limits(limits: RateLimits, policies: dict[str, RateLimitPolicy]) -> RateLimitConfig:
    return RateLimitConfig(
        policies=MappingProxyType(policies),
        on_redis_failure=limits.on_redis_failure,
        legacy_headers=limits.legacy_headers,
        exempt=tuple(limits.exempt),
    )


def _server(sources: Sources, server: Server) -> ServerConfig:
    place = sources.place("server")
    cert_file, key_file = server.tls_cert_file, server.tls_key_file
    checks.certificate((cert_file, ("tls_cert_file",)), (key_file, ("tls_key_file",)), place)
    tls = ListenerTls(cert_file, key_file) if cert_file and key_file else None
    values = server.model_dump(exclude={"tls_cert_file", "tls_key_file", "trusted_proxies"})
    return ServerConfig(**values, tls=tls, trusted_proxies=tuple(server.trusted_proxies))


def _log(sources: Sources, settings: Settings) -> LogConfig:
    checks.directory(settings.log.dir, ("dir",), sources.place("log"))
    return LogConfig(**settings.log.model_dump())


def _errors(sources: Sources, settings: Settings) -> ErrorsConfig:
    errors, place = settings.errors, sources.place("errors")
    if errors.webhook_secret is not None and errors.webhook_url is None:
        place.report(("webhook_secret",), errors.webhook_secret, f"only with {place.name(('webhook_url',))}")
    return ErrorsConfig(**errors.model_dump())


def _journal(sources: Sources, settings: Settings, routes: Iterable[RouteConfig]) -> tuple[JournalConfig, bool]:
    """Where the journal is, and whether a route needs it."""
    journal = journal_config(settings.journal)
    needed = any(route.idempotency or route.deliver or route.workflow for route in routes)
    if needed:
        check_journal(journal, sources.place("journal"))
    return journal, needed


def _admin(sources: Sources, settings: Settings) -> AdminConfig:
    admin, place = settings.admin, sources.place("admin")
    if admin.port == settings.server.port:
        place.report(("port",), admin.port, f"another port than {sources.place('server').name(('port',))}")
    return AdminConfig(**admin.model_dump())


def _faults(sources: Sources, settings: Settings) -> FaultsConfig:
    if settings.faults.enabled and settings.admin.token is None:
        token = sources.place("admin").name(("token",))
        sources.place("faults").report(("enabled",), True, f"false, unless {token} is set: nobody else may set one")
    return FaultsConfig(**settings.faults.model_dump())


def _shedding(
    sources: Sources, shedding: Shedding, routes: Iterable[RouteConfig], who: IdentityConfig
) -> SheddingConfig:
    checks.queue(shedding, (), sources.place("shedding"))
    limit = LimitSettings(shedding.limit, shedding.max_queue, shedding.queue_timeout)
    # As soon as anybody has a priority, those of whom nothing is said have the one in the middle.
    words = (*(route.priority for route in routes), *(tier.priority for tier in who.tiers.values()))
    header = shedding.priority_header
    priorities = header is not None or any(word is not None for word in words)
    return SheddingConfig(
        limit, shedding.status, shedding.retry_after, shedding.client_share, header, priorities=priorities
    )
