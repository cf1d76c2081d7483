"""The upstreams of the configuration: those of the file, and the one that `UPSTREAM_URL` names."""

from dataclasses import replace
from typing import Any, TypeGuard

from gateway.config.building.file_checks import check_authorities, check_certificate
from gateway.config.building.place import Place, Steps
from gateway.config.building.relations import check_queue, settled
from gateway.config.building.sources import Sources, overlaid
from gateway.config.declaring import addresses
from gateway.config.file import File
from gateway.config.problems import Notice, shown
from gateway.config.reading.yaml_tree import dotted
from gateway.config.sections.headers.build import field_changes
from gateway.config.sections.upstreams.model import EndpointConfig, HealthCheckConfig, UpstreamConfig, UpstreamTls
from gateway.config.sections.upstreams.settings import Adaptive, FileEndpoint, FileUpstream, Upstream
from gateway.config.settings import Settings
from gateway.policy.adaptive import AdaptiveSettings
from gateway.policy.breaker import BreakerSettings
from gateway.policy.budget import BudgetSettings
from gateway.policy.ejection import EjectionSettings
from gateway.policy.limit import LimitSettings
from gateway.policy.retry import RetrySettings
from gateway.syntax import hosts, units

UPSTREAM_PAIRS: tuple[tuple[Steps, Steps], ...] = (
    (("timeouts", "attempt"), ("timeouts", "total")),
    (("retry", "base_delay"), ("retry", "max_delay")),
    (("bulkhead", "adaptive", "min"), ("bulkhead", "adaptive", "initial")),
    (("breaker", "minimum_calls"), ("breaker", "window_size")),
    (("ejection", "base_time"), ("ejection", "max_time")),
    (("health_check", "timeout"), ("health_check", "interval")),
)

DEFAULT = "default"


def upstreams_of(sources: Sources, file: File, own: Upstream, *, own_route: bool) -> dict[str, UpstreamConfig]:
    """By name, the upstreams that are valid. `own` is what the environment says about every upstream; with `own_route`
    there is an upstream `default` whether or not the file defines it."""
    target = addresses.target(sources.settings.default_upstream.url)
    place = sources.place("upstream")
    upstreams = {}
    if own_route and DEFAULT not in file.upstreams:
        _check_own_address(sources, target)
        if sources.settings.process.service_name == DEFAULT:
            allowed = "another name than that of the upstream of UPSTREAM_URL"
            sources.place("process").report(("service_name",), DEFAULT, allowed)
        endpoints = tuple(EndpointConfig(host, port) for host, port in target.addresses)
        _check_tls_files(own, place)
        upstreams[DEFAULT] = _upstream(
            DEFAULT, own, endpoints, target.scheme, base_path=target.base_path, authority=target.authority
        )
    entries = dict(file.upstreams)
    if isinstance(entries.get(DEFAULT), dict):
        entries[DEFAULT] = _with_target(sources, entries[DEFAULT], target)
    defaults = sources.settings.upstream.model_dump()
    named = (
        (name, _as_tool(sources.settings, entry) if _is_tool(entry) else entry)
        for name, entry in sources.named(entries, "upstreams")
    )
    _notice_idle_tools(sources, entries)
    for name, entry in sources.entries(FileUpstream, named, "upstreams", defaults):
        upstreams[name] = _file_upstream(sources, name, entry)
    return upstreams


def _with_target(sources: Sources, entry: dict[str, Any], target: addresses.Target) -> dict[str, Any]:
    """The file may tune `default` and leave its address to `UPSTREAM_URL`, but not contradict it."""
    location = ("upstreams", DEFAULT, "endpoints")
    if "endpoints" not in entry:
        _check_own_address(sources, target)
        endpoints = [{"host": host, "port": port} for host, port in target.addresses]
        url = {"endpoints": endpoints, "scheme": target.scheme, "base_path": target.base_path or "/"}
        return url | entry
    if "UPSTREAM_URL" in sources.variables.given:
        other = sources.variables.source("UPSTREAM_URL")
        sources.refuse(location, "a list", f"not together with {other}; set one of them")
    return entry


def _is_tool(entry: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(entry, dict) and entry.get("tool") is True


def _notice_idle_tools(sources: Sources, entries: dict[str, object]) -> None:
    """Say of a setting for tool services that there are none."""
    for name in ("TOOL_TIMEOUT", "TOOL_MAX_ATTEMPTS"):
        if name in sources.variables.given and not any(map(_is_tool, entries.values())):
            source = sources.variables.source(name)
            sources.notices.append(Notice(source, "no effect: no upstream of the file has tool: true"))


def _as_tool(settings: Settings, entry: dict[str, Any]) -> object:
    """The entry of a tool service, with the defaults of such where it leaves something out. A `total` of its own bounds
    the time of an attempt; that of the environment gives way, because it is about all upstreams."""
    tools = settings.tools
    timeouts = entry.get("timeouts")
    total = timeouts.get("total") if isinstance(timeouts, dict) else None
    seconds = units.duration(total) if isinstance(total, str) else total
    longest = seconds if isinstance(seconds, int | float) and seconds > 0 else tools.timeout
    times = {
        "attempt": min(tools.timeout, longest),
        "total": max(settings.upstream.timeouts.total, tools.timeout),
    }
    return overlaid({"timeouts": times, "retry": {"max_attempts": tools.max_attempts}}, entry)


def _file_upstream(sources: Sources, name: str, entry: FileUpstream) -> UpstreamConfig:
    place = sources.place("upstream", location=("upstreams", name))
    own_name = sources.settings.process.service_name
    if name == own_name:
        # Figures, errors and metrics of both would be under one name.
        sources.refuse(
            ("upstreams", name), shown(name), f"another name than the gateway's own, SERVICE_NAME: {own_name}"
        )
    entry = settled(entry, UPSTREAM_PAIRS, place)
    check_queue(entry.bulkhead, ("bulkhead",), place)
    scheme: str = entry.scheme or next((each.scheme for each in entry.endpoints if each.scheme), "http")
    endpoints = _endpoints(sources, name, entry.endpoints, scheme)
    if scheme == "http" and sources.tree.holds(("upstreams", name, "tls")):
        sources.refuse(("upstreams", name, "tls"), "a mapping", "only with scheme: https")
    _check_tls_files(entry, place)
    authority = entry.authority or addresses.written(endpoints[0].host, endpoints[0].port, scheme)
    made = _upstream(name, entry, endpoints, scheme, base_path=entry.base_path, authority=authority)
    changes = field_changes(sources, entry.request_headers, ("upstreams", name, "request_headers"), "request")
    return replace(made, request_headers=changes)


def _endpoints(sources: Sources, name: str, entries: list[FileEndpoint], scheme: str) -> tuple[EndpointConfig, ...]:
    seen: dict[tuple[str, int], int] = {}
    for index, entry in enumerate(entries):
        location = ("upstreams", name, "endpoints", index)
        own_scheme = entry.scheme or scheme
        text = shown(f"{own_scheme}://{addresses.written(entry.host, entry.port, own_scheme)}")
        if sources.tree.holds(location) and _is_own(sources, entry.host, entry.port):
            allowed = _not_itself(entry.host, entry.port)
            sources.refuse(location, text, allowed)
        if own_scheme != scheme:
            sources.refuse(location, text, f"{scheme}, as the whole upstream")
        first = seen.setdefault((entry.host, entry.port), index)
        if first != index:
            other = dotted((*location[:-1], first))
            sources.refuse(location, text, f"each endpoint once; it is {other} too")
    return tuple(EndpointConfig(entry.host, entry.port, entry.weight) for entry in entries)


def _is_own(sources: Sources, host: str, port: int) -> bool:
    server = sources.settings.server
    known = sources.broken.isdisjoint({"HOST", "PORT"})
    return known and port == server.port and addresses.reaches(host, server.host)


def _check_own_address(sources: Sources, target: addresses.Target) -> None:
    """Report an `UPSTREAM_URL` that is the gateway's own address, because that would be a loop. Where it is not set,
    its default must not be the address that `PORT` gives to the gateway."""
    own = next((address for address in target.addresses if _is_own(sources, *address)), None)
    if own is None or "UPSTREAM_URL" in sources.broken:
        return
    url = sources.settings.default_upstream.url
    if "UPSTREAM_URL" in sources.variables.given:
        sources.place("default_upstream").report(("url",), url, _not_itself(*own))
    else:
        allowed = f"another port than that of UPSTREAM_URL, which is {url} unless set"
        sources.place("server").report(("port",), own[1], allowed)


def _adaptive(own: Adaptive) -> AdaptiveSettings | None:
    return None if own.mode == "off" else AdaptiveSettings(own.mode == "enforce", own.min, own.initial)


def _check_tls_files(upstream: Upstream, place: Place) -> None:
    tls = upstream.tls
    check_certificate((tls.cert_file, ("tls", "cert_file")), (tls.key_file, ("tls", "key_file")), place)
    check_authorities(tls.ca_file, ("tls", "ca_file"), place)


def _not_itself(host: str, port: int) -> str:
    return f"servers other than the gateway itself, which listens on {hosts.written(host, port)}"


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
            retry.max_attempts,
            retry.base_delay,
            retry.max_delay,
            retry.strategy,
            frozenset(retry.statuses),
            retry.non_idempotent,
        ),
        budget=BudgetSettings(ratio=retry.budget_ratio, min_per_second=retry.budget_min_per_second),
        breaker=BreakerSettings(**own.breaker.model_dump()),
        bulkhead=LimitSettings(**own.bulkhead.model_dump(exclude={"adaptive"})),
        adaptive=_adaptive(own.bulkhead.adaptive),
        ejection=EjectionSettings(**own.ejection.model_dump()),
        health_check=HealthCheckConfig(**own.health_check.model_dump()) if own.health_check.path else None,
    )
