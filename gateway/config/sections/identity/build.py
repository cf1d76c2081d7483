"""Consumers, tenants and tiers of the file, and what they refer to."""

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from gateway.config.building.place import Place
from gateway.config.building.sources import Sources
from gateway.config.file import File
from gateway.config.problems import Notice, Problem, shown
from gateway.config.sections.identity.model import (
    OTHER_TENANTS,
    AllowConfig,
    ConsumerConfig,
    IdentityConfig,
    KeyConfig,
    Method,
    TierConfig,
)
from gateway.config.sections.identity.settings import FileConsumer, FileKey, FileTenant, FileTier
from gateway.config.sections.issuers.build import issuers_of
from gateway.config.sections.issuers.settings import FileIssuer
from gateway.config.sections.routes.settings import FileRoute
from gateway.config.settings import Settings


def identity_of(sources: Sources, settings: Settings, file: File, policies: Iterable[str]) -> IdentityConfig:
    """Everything about who may ask. `policies` are the rate limits that tiers and consumers may name. A limit is left
    out where rate limits are switched off."""
    limited = settings.rate_limit.enabled
    known = list(policies)
    tiers: dict[str, FileTier] = dict(_entries(sources, FileTier, file.tiers, "tiers"))
    tenants: dict[str, FileTenant] = dict(_entries(sources, FileTenant, file.tenants, "tenants"))
    consumers: dict[str, FileConsumer] = dict(_entries(sources, FileConsumer, file.consumers, "consumers"))
    _check(sources, "tiers", tiers, "rate_limit", known)
    _check(sources, "consumers", consumers, "rate_limit", known)
    _check(sources, "tenants", tenants, "tier", list(file.tiers))
    if OTHER_TENANTS not in file.tiers:
        # With the tier `default` any tenant may be named, because each has a tier.
        _check(sources, "consumers", consumers, "tenant", list(file.tenants))
    _check_ids(sources, consumers)
    issuers: dict[str, FileIssuer] = dict(_entries(sources, FileIssuer, file.issuers, "issuers"))
    return IdentityConfig(
        consumers=MappingProxyType({name: _consumer(name, each, limited=limited) for name, each in consumers.items()}),
        tenants=MappingProxyType({name: each.tier for name, each in tenants.items()}),
        tiers=MappingProxyType(
            {
                name: TierConfig(
                    name,
                    each.rate_limit if limited else None,
                    each.concurrency,
                    each.quota_per_day,
                    priority=each.priority,
                )
                for name, each in tiers.items()
            }
        ),
        issuers=issuers_of(sources, issuers, settings.identity.api_key_header),
        api_key_header=settings.identity.api_key_header,
        api_key_query=settings.identity.api_key_query,
    )


def allowed_on(route: FileRoute, place: Place) -> AllowConfig:
    """Whom the route is for. That means nothing without authentication, so it is reported."""
    allow = AllowConfig(*(frozenset(getattr(route.allow, key)) for key in ("tenants", "consumers", "scopes")))
    if allow != AllowConfig() and not route.authentication and place.tree is not None:
        source = place.tree.source((*place.location, "allow"))
        place.problems.append(Problem(source, "a mapping", "only with authentication: nobody is known without it"))
    return allow


def limits_used(identity: IdentityConfig) -> set[str | None]:
    """The rate limits that tiers and consumers name."""
    of_tiers = {each.rate_limit for each in identity.tiers.values()}
    return of_tiers | {each.rate_limit for each in identity.consumers.values()}


def caller_notices(
    sources: Sources, identity: IdentityConfig, ways: Collection[Method], *, shared: bool
) -> Iterator[Notice]:
    """What is there for nobody: callers without a route that asks who they are, and keys that nobody can have. `ways`
    are those in which routes ask; `shared` says whether there is Redis."""
    for part in ("consumers", "tenants", "tiers", "issuers"):
        if getattr(identity, part) and not ways:
            yield Notice(sources.tree.source((part,)), "no route has authentication, so nobody is known")
            return
    if identity.api_key_query is not None and "api_key" in ways:
        said = "keys may come in the query: browsers and proxies keep URLs, and what they keep of these is a key"
        yield Notice("API_KEY_QUERY", said)
    if identity.issuers and "jwt" not in ways:
        yield Notice(sources.tree.source(("issuers",)), "no route has authentication: jwt, so no token counts")
    if "api_key" in ways and not shared and not any(consumer.keys for consumer in identity.consumers.values()):
        yield Notice(
            "authentication",
            "api_key, but no consumer has a key and there is no Redis for keys: every API key is refused",
        )


def _entries(sources: Sources, model: type[Any], entries: Mapping[str, object], part: str) -> Iterable[tuple[str, Any]]:
    # An entry that says nothing is an empty mapping: `acme:` names a tenant without a tier.
    given = {name: {} if entry is None else entry for name, entry in entries.items()}
    return sources.entries(model, sources.named(given, part), part, {})


def _check(sources: Sources, part: str, entries: Mapping[str, BaseModel], key: str, known: list[str]) -> None:
    for name, entry in entries.items():
        value = getattr(entry, key)
        if value is not None and value not in known:
            sources.refuse_name((part, name, key), value, known)


def _check_ids(sources: Sources, consumers: Mapping[str, FileConsumer]) -> None:
    seen: dict[str, str] = {}
    for name, consumer in consumers.items():
        for index, key in enumerate(consumer.keys):
            first = seen.setdefault(key.id, f"consumers.{name}.keys[{index}]")
            if first != f"consumers.{name}.keys[{index}]":
                location = ("consumers", name, "keys", index, "id")
                sources.refuse(location, shown(key.id), f"an id of its own; {first} has the same")


def _consumer(name: str, entry: FileConsumer, *, limited: bool) -> ConsumerConfig:
    return ConsumerConfig(
        name,
        entry.tenant,
        frozenset(entry.scopes),
        entry.rate_limit if limited else None,
        tuple(_key(each) for each in entry.keys),
    )


def _key(key: FileKey) -> KeyConfig:
    until = None if key.not_after is None else datetime.datetime.fromisoformat(key.not_after).timestamp()
    return KeyConfig(key.id, key.sha256, until)
