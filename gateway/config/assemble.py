"""From validated settings and file to the domain types.

Precedence, for whatever belongs to an upstream, a rate limit or a route: the file, then the environment, then the
default. Where the file defines routes, the environment's `/proxy/` route and its upstream `default` are there only if
`UPSTREAM_URL` is set: a gateway with routes of its own must not open one that nobody asked for.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway import names
from gateway.config import addresses, checks, near_misses
from gateway.config.checks import Place
from gateway.config.field_types import Name
from gateway.config.file import NO_LIMIT, File, FileEndpoint, FileRoute, FileUpstream, overlaid
from gateway.config.model import (
    AdminConfig,
    CorsConfig,
    EndpointConfig,
    ErrorsConfig,
    GatewayConfig,
    HealthCheckConfig,
    ListenerTls,
    LogConfig,
    RateLimitConfig,
    RouteConfig,
    ServerConfig,
    SheddingConfig,
    UpstreamConfig,
    UpstreamTls,
)
from gateway.config.notices import literal_stars, unused
from gateway.config.problems import UNKNOWN, Notice, Problem, nearest, shown
from gateway.config.redis_settings import redis_config
from gateway.config.route_settings import Cors
from gateway.config.schema import problem
from gateway.config.settings import RateLimit, Server, Settings, Shedding
from gateway.config.upstream_settings import Upstream
from gateway.config.variables import VARIABLES, Variables
from gateway.config.yaml_tree import Location, Tree, dotted
from gateway.policy.breaker import BreakerSettings
from gateway.policy.budget import BudgetSettings
from gateway.policy.ejection import EjectionSettings
from gateway.policy.limit import LimitSettings
from gateway.policy.retry import RetrySettings
from gateway.policy.token_bucket import RateLimitPolicy

DEFAULT = "default"
PROXY_PREFIX = "/proxy/"

_NAME = TypeAdapter(Name)
_Entry = TypeVar("_Entry", bound=BaseModel)


@dataclass(slots=True)
class Assembly:
    """One pass over settings and file. `problems` grows; the result counts only if it stays empty."""

    settings: Settings
    variables: Variables
    broken: frozenset[str]
    tree: Tree
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    given_way: dict[str, tuple[object, str]] = field(default_factory=dict)
    """Defaults that gave way to another setting: what they are called, their new value, and what that setting is."""

    def config(self) -> GatewayConfig:
        """The configuration in effect. What is wrong is added to the problems and replaced by something valid, so that
        one run finds all problems; the result is to be used only if there are none."""
        file = self._file()
        place = self._place()
        settings = checks.settled(self.settings, checks.SETTINGS_PAIRS, place)
        checks.queue(settings.upstream.bulkhead, ("upstream", "bulkhead"), place)
        policies = self._policies(file)
        file_routes = list(self._entries(FileRoute, enumerate(file.routes), "routes", self._route_defaults()))
        url_given = "UPSTREAM_URL" in self.variables.given
        own_route = url_given or not file.routes
        upstreams = self._upstreams(file, settings.upstream, own_route=own_route)
        known_upstreams = dict.fromkeys([*upstreams, *file.upstreams])
        known_policies = dict.fromkeys([*policies, *file.rate_limits])
        for index, route in file_routes:
            self._check_references(index, route, list(known_upstreams), list(known_policies))
        self._check_duplicates(file_routes)
        routes = [self._route(index, route) for index, route in file_routes]
        if own_route and not any(
            route.name == "proxy" or (route.prefix == PROXY_PREFIX and route.host is None) for route in routes
        ):
            routes.append(self._proxy_route(settings))
        self.notices += literal_stars(self.tree, ((index, route.prefix) for index, route in file_routes))
        self.notices += unused(self.tree, routes, limited=settings.rate_limit.enabled)
        return GatewayConfig(
            service=settings.process.service_name,
            environment=settings.process.environment,
            server=self._server(settings.server),
            shedding=self._shedding(settings.shedding),
            rate_limits=RateLimitConfig(
                policies=MappingProxyType(policies),
                on_redis_failure=settings.rate_limit.on_redis_failure,
                legacy_headers=settings.rate_limit.legacy_headers,
                exempt=tuple(settings.rate_limit.exempt),
            ),
            upstreams=MappingProxyType(upstreams),
            routes=tuple(routes),
            redis=redis_config(settings.redis, self._place("redis")),
            log=self._log(settings),
            errors=self._errors(settings),
            admin=self._admin(settings),
            retry_buffer_bytes=settings.retry_buffer.buffer_bytes,
        )

    def _place(self, *settings: str, location: Location = ()) -> Place:
        tree = self.tree if location else None
        return Place(self.variables, self.problems, settings, tree, location, self.broken, self.given_way)

    def _report(self, model: type[BaseModel], detail: ErrorDetails, part: str, entry: tuple[Any, ...]) -> None:
        """One error about a value of the file, unless it was reported already."""
        location = (*entry, *detail["loc"])
        if location in self.tree.broken:
            return
        found = problem(model, detail, self.tree.source(location))
        if found.value == UNKNOWN:
            hint = near_misses.key(part, detail["loc"], found.allowed.split(", "), VARIABLES)
            found = dataclasses.replace(found, suggestion=hint)
        elif location in self.tree.written:
            found = dataclasses.replace(found, value=shown(self.tree.written[location]))
        self.problems.append(found)

    # The file

    def _file(self) -> File:
        root = self.tree.root
        if root is None:
            return File()
        if not isinstance(root, dict):
            self.problems.append(
                Problem(self.tree.source(()), shown(root), "a mapping with upstreams, rate_limits and routes")
            )
            return File()
        present = {key: value for key, value in root.items() if value is not None or key not in File.model_fields}
        try:
            return File.model_validate(present, strict=True)
        except ValidationError as error:
            for detail in error.errors():
                self._report(File, detail, "", ())
                present.pop(detail["loc"][0], None)
            return File.model_validate(present, strict=True)

    def _entries(
        self, model: type[_Entry], entries: Iterable[tuple[Any, object]], part: str, defaults: dict[str, Any]
    ) -> Iterable[tuple[Any, _Entry]]:
        """The entries that are valid; what is wrong with the others is reported."""
        for key, entry in entries:
            try:
                yield key, model.model_validate(overlaid(defaults, entry), strict=True)
            except ValidationError as error:
                for detail in error.errors():
                    self._report(model, detail, part, (part, key))

    def _named(self, entries: dict[str, object], part: str) -> Iterable[tuple[str, object]]:
        for name, entry in entries.items():
            try:
                _NAME.validate_python(name)
            except ValidationError as error:
                detail = error.errors()[0]
                self.problems.append(Problem(self.tree.source((part, name)), shown(name), detail["ctx"]["allowed"]))
            yield name, entry

    # Rate limits

    def _policies(self, file: File) -> dict[str, RateLimitPolicy]:
        own = self.settings.rate_limit
        defaults = {key: getattr(own, key) for key in RateLimit.model_fields}
        named = self._named(file.rate_limits, "rate_limits")
        entries = {
            name: checks.bucket_lifetime(entry, self._place("rate_limit", location=("rate_limits", name)))
            for name, entry in self._entries(RateLimit, named, "rate_limits", defaults)
        }
        if DEFAULT not in file.rate_limits:
            own = checks.bucket_lifetime(own, self._place("rate_limit"))
        if NO_LIMIT in file.rate_limits:
            source = self.tree.source(("rate_limits", NO_LIMIT))
            self.problems.append(Problem(source, shown(NO_LIMIT), "another name: on a route it means no limit"))
        return {
            name: RateLimitPolicy(name, entry.capacity, entry.refill_rate, entry.ttl)
            for name, entry in ({DEFAULT: own} | entries).items()
        }

    # Upstreams

    def _upstreams(self, file: File, own: Upstream, *, own_route: bool) -> dict[str, UpstreamConfig]:
        target = addresses.target(self.settings.default_upstream.url)
        place = self._place("upstream")
        upstreams = {}
        if own_route and DEFAULT not in file.upstreams:
            self._check_own_address(target)
            endpoints = tuple(EndpointConfig(host, port) for host, port in target.addresses)
            self._check_tls_files(own, place)
            upstreams[DEFAULT] = _upstream(
                DEFAULT, own, endpoints, target.scheme, base_path=target.base_path, authority=target.authority
            )
        entries = dict(file.upstreams)
        if isinstance(entries.get(DEFAULT), dict):
            entries[DEFAULT] = self._with_target(entries[DEFAULT], target)
        defaults = self.settings.upstream.model_dump()
        for name, entry in self._entries(FileUpstream, self._named(entries, "upstreams"), "upstreams", defaults):
            upstreams[name] = self._file_upstream(name, entry)
        return upstreams

    def _with_target(self, entry: dict[str, Any], target: addresses.Target) -> dict[str, Any]:
        """The file may tune `default` and leave its address to `UPSTREAM_URL`, but not contradict it."""
        location = ("upstreams", DEFAULT, "endpoints")
        if "endpoints" not in entry:
            self._check_own_address(target)
            endpoints = [{"host": host, "port": port} for host, port in target.addresses]
            url = {"endpoints": endpoints, "scheme": target.scheme, "base_path": target.base_path or "/"}
            return url | entry
        if "UPSTREAM_URL" in self.variables.given:
            other = self.variables.source("UPSTREAM_URL")
            self.problems.append(
                Problem(self.tree.source(location), "a list", f"not together with {other}; set one of them")
            )
        return entry

    def _file_upstream(self, name: str, entry: FileUpstream) -> UpstreamConfig:
        place = self._place("upstream", location=("upstreams", name))
        entry = checks.settled(entry, checks.UPSTREAM_PAIRS, place)
        checks.queue(entry.bulkhead, ("bulkhead",), place)
        scheme: str = entry.scheme or next((each.scheme for each in entry.endpoints if each.scheme), "http")
        endpoints = self._endpoints(name, entry.endpoints, scheme)
        if scheme == "http" and self.tree.holds(("upstreams", name, "tls")):
            self.problems.append(
                Problem(self.tree.source(("upstreams", name, "tls")), "a mapping", "only with scheme: https")
            )
        self._check_tls_files(entry, place)
        authority = entry.authority or addresses.written(endpoints[0].host, endpoints[0].port, scheme)
        return _upstream(name, entry, endpoints, scheme, base_path=entry.base_path, authority=authority)

    def _endpoints(self, name: str, entries: list[FileEndpoint], scheme: str) -> tuple[EndpointConfig, ...]:
        seen: dict[tuple[str, int], int] = {}
        for index, entry in enumerate(entries):
            location = ("upstreams", name, "endpoints", index)
            own_scheme = entry.scheme or scheme
            text = shown(f"{own_scheme}://{addresses.written(entry.host, entry.port, own_scheme)}")
            if self.tree.holds(location) and self._is_own(entry.host, entry.port):
                allowed = _not_itself(entry.host, entry.port)
                self.problems.append(Problem(self.tree.source(location), text, allowed))
            if own_scheme != scheme:
                self.problems.append(Problem(self.tree.source(location), text, f"{scheme}, as the whole upstream"))
            first = seen.setdefault((entry.host, entry.port), index)
            if first != index:
                other = dotted((*location[:-1], first))
                self.problems.append(
                    Problem(self.tree.source(location), text, f"each endpoint once; it is {other} too")
                )
        return tuple(EndpointConfig(entry.host, entry.port, entry.weight) for entry in entries)

    def _is_own(self, host: str, port: int) -> bool:
        server = self.settings.server
        known = self.broken.isdisjoint({"HOST", "PORT"})
        return known and port == server.port and addresses.reaches(host, server.host)

    def _check_own_address(self, target: addresses.Target) -> None:
        """`UPSTREAM_URL` as the gateway's own address would be a loop; its default is where PORT must not be."""
        own = next((address for address in target.addresses if self._is_own(*address)), None)
        if own is None or "UPSTREAM_URL" in self.broken:
            return
        url = self.settings.default_upstream.url
        if "UPSTREAM_URL" in self.variables.given:
            self._place("default_upstream").report(("url",), url, _not_itself(*own))
        else:
            allowed = f"another port than that of UPSTREAM_URL, which is {url} unless set"
            self._place("server").report(("port",), own[1], allowed)

    def _check_tls_files(self, upstream: Upstream, place: Place) -> None:
        tls = upstream.tls
        checks.certificate((tls.cert_file, ("tls", "cert_file")), (tls.key_file, ("tls", "key_file")), place)
        checks.authorities(tls.ca_file, ("tls", "ca_file"), place)

    # Routes

    def _route_defaults(self) -> dict[str, Any]:
        # WEBSOCKET_ENABLED is about /proxy/ alone: a route of the file opens tunnels only if it says so.
        return self.settings.routes.model_dump(exclude={"websocket"})

    def _route(self, index: int, route: FileRoute) -> RouteConfig:
        return RouteConfig(
            name=route.name,
            prefix=route.prefix,
            upstream=route.upstream,
            host=route.host,
            methods=frozenset(route.methods) if route.methods is not None else None,
            strip_prefix=route.strip_prefix,
            preserve_host=route.preserve_host,
            rate_limit=route.rate_limit if self.settings.rate_limit.enabled else None,
            websocket=route.websocket,
            max_tunnels=route.max_tunnels,
            tunnel_idle_timeout=route.tunnel_idle_timeout,
            max_body_bytes=route.max_body_bytes or None,
            path_dots=route.path_dots,
            rewrite_redirects=route.rewrite_redirects,
            cors=self._cors(route.cors, ("routes", index, "cors")),
        )

    def _proxy_route(self, settings: Settings) -> RouteConfig:
        return RouteConfig(
            name="proxy",
            prefix=PROXY_PREFIX,
            upstream=DEFAULT,
            strip_prefix=True,
            rate_limit=DEFAULT if settings.rate_limit.enabled else None,
            websocket=settings.routes.websocket,
            max_tunnels=settings.routes.max_tunnels,
            tunnel_idle_timeout=settings.routes.tunnel_idle_timeout,
            max_body_bytes=settings.routes.max_body_bytes or None,
            path_dots=settings.routes.path_dots,
            rewrite_redirects=settings.routes.rewrite_redirects,
            cors=self._cors(settings.routes.cors, ()),
        )

    def _cors(self, cors: Cors, location: Location) -> CorsConfig:
        place = self._place("routes", "cors", location=location)
        if "*" in cors.origins and len(cors.origins) > 1:
            place.report(("origins",), ",".join(cors.origins), "* alone, or origins without it")
        elif "*" in cors.origins and cors.credentials:
            # Browsers ignore such an answer (the Fetch standard, section 3.2.5), and to name whoever asks instead would
            # give every page the user's session.
            place.report(("credentials",), cors.credentials, f"false, or {place.name(('origins',))} without *")
        lists = {name: tuple(getattr(cors, name)) for name in ("origins", "methods", "headers", "expose")}
        return CorsConfig(
            **lists,
            credentials=cors.credentials,
            max_age=cors.max_age,
            public_refusals=cors.public_refusals,
        )

    def _check_references(self, index: int, route: FileRoute, upstreams: list[str], policies: list[str]) -> None:
        for key, value, known in (("upstream", route.upstream, upstreams), ("rate_limit", route.rate_limit, policies)):
            if value is not None and value not in known:
                source = self.tree.source(("routes", index, key))
                names = ", ".join(known) or "no names yet: the file defines none"
                self.problems.append(Problem(source, shown(value), names, nearest(value, known)))

    def _check_duplicates(self, routes: list[tuple[int, FileRoute]]) -> None:
        kinds: tuple[tuple[str, str, Callable[[FileRoute], Any]], ...] = (
            ("name", "a name of its own", lambda route: route.name),
            ("prefix", "a host and prefix of its own", lambda route: (route.host, route.prefix)),
        )
        for key, wanted, identity in kinds:
            seen: dict[Any, int] = {}
            for index, route in routes:
                first = seen.setdefault(identity(route), index)
                if first != index:
                    source = self.tree.source(("routes", index, key))
                    value = shown(getattr(route, key))
                    self.problems.append(Problem(source, value, f"{wanted}; routes[{first}] has the same"))

    # The rest

    def _server(self, server: Server) -> ServerConfig:
        place = self._place("server")
        certificate = (server.tls_cert_file, ("tls_cert_file",)), (server.tls_key_file, ("tls_key_file",))
        checks.certificate(*certificate, place)
        tls = (
            ListenerTls(server.tls_cert_file, server.tls_key_file)
            if server.tls_cert_file and server.tls_key_file
            else None
        )
        values = server.model_dump(exclude={"tls_cert_file", "tls_key_file", "trusted_proxies"})
        return ServerConfig(**values, tls=tls, trusted_proxies=tuple(server.trusted_proxies))

    def _log(self, settings: Settings) -> LogConfig:
        checks.directory(settings.log.dir, ("dir",), self._place("log"))
        return LogConfig(**settings.log.model_dump())

    def _errors(self, settings: Settings) -> ErrorsConfig:
        errors, place = settings.errors, self._place("errors")
        if errors.webhook_secret is not None and errors.webhook_url is None:
            place.report(("webhook_secret",), errors.webhook_secret, f"only with {place.name(('webhook_url',))}")
        return ErrorsConfig(**errors.model_dump())

    def _admin(self, settings: Settings) -> AdminConfig:
        admin, place = settings.admin, self._place("admin")
        if admin.port == settings.server.port:
            place.report(("port",), admin.port, f"another port than {self._place('server').name(('port',))}")
        return AdminConfig(**admin.model_dump())

    def _shedding(self, shedding: Shedding) -> SheddingConfig:
        checks.queue(shedding, (), self._place("shedding"))
        limit = LimitSettings(shedding.limit, shedding.max_queue, shedding.queue_timeout)
        return SheddingConfig(limit, shedding.status, shedding.retry_after, shedding.client_share)


def _not_itself(host: str, port: int) -> str:
    return f"servers other than the gateway itself, which listens on {names.written(host, port)}"


def _upstream(
    name: str, own: Upstream, endpoints: tuple[EndpointConfig, ...], scheme: str, *, base_path: str, authority: str
) -> UpstreamConfig:
    retry = own.retry
    return UpstreamConfig(
        name=name,
        endpoints=endpoints,
        authority=authority,
        base_path=base_path,
        tls=UpstreamTls(**own.tls.model_dump()) if scheme == "https" else None,
        balance=own.balance,
        connect_timeout=own.timeouts.connect,
        attempt_timeout=own.timeouts.attempt,
        total_timeout=own.timeouts.total,
        idle_timeout=own.timeouts.idle,
        max_connections=own.max_connections,
        keepalive_timeout=own.keepalive_timeout,
        max_connection_age=own.max_connection_age,
        max_requests_per_connection=own.max_requests_per_connection,
        dns_ttl=own.dns_ttl,
        dns_stale=own.dns_stale,
        failure_statuses=frozenset(own.failure_statuses),
        honours_idempotency_key=own.honours_idempotency_key,
        retry=RetrySettings(
            retry.max_attempts, retry.base_delay, retry.max_delay, retry.strategy, frozenset(retry.statuses)
        ),
        budget=BudgetSettings(ratio=retry.budget_ratio, min_per_second=retry.budget_min_per_second),
        breaker=BreakerSettings(**own.breaker.model_dump()),
        bulkhead=LimitSettings(**own.bulkhead.model_dump()),
        ejection=EjectionSettings(**own.ejection.model_dump()),
        health_check=HealthCheckConfig(**own.health_check.model_dump()) if own.health_check.path else None,
    )
