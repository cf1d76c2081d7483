"""From the issuers of the configuration to what checks their tokens, and what fetches their keys."""

import asyncio
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from gateway.config.model import GatewayConfig
from gateway.config.sections.issuers.model import IssuerConfig
from gateway.identity.issuer_keys import IssuerKeys
from gateway.identity.key_sources import KeyFetcher, KeyFile
from gateway.identity.tenants import Directory
from gateway.identity.tokens import Issuer, Tokens
from gateway.jose.jwk import parse_set, secret_set
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels

Series = Iterator[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class TokenChecks:
    """The tokens, and the sources of the keys. `fetchers` are those that ask a URL, each by a text that tells what it
    asks for: name, URL and algorithms of its issuer. Keys that were fetched for one text are of no use for another."""

    tokens: Tokens
    sources: tuple[KeyFetcher | KeyFile, ...]
    fetchers: Mapping[str, KeyFetcher]

    def start(self) -> None:
        """Begin to fetch keys, on the running loop."""
        for source in self.sources:
            source.start()

    async def tried(self, seconds: float) -> None:
        """Until the keys of each issuer were asked for once, for so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(source.tried() for source in self.sources))

    async def stop(self) -> None:
        """Fetch no more."""
        await asyncio.gather(*(source.stop() for source in self.sources))

    def count(self, metrics: Metrics) -> None:
        """Show what becomes of tokens, and how the keys are."""
        metrics.counter(
            "jwks_fetches_total",
            "Fetches of an issuer's keys, by what came of them.",
            ("issuer", "outcome"),
            self._fetches,
        )
        metrics.gauge(
            "jwks_age_seconds",
            "Since the keys of an issuer were had, where there are any.",
            ("issuer",),
            self._ages,
            "max",
        )
        metrics.gauge("jwks_keys", "Keys of an issuer that can be used.", ("issuer",), self._keys, "min")
        metrics.counter(
            "jwt_checks_total",
            "Tokens that were looked at, those seen a short while ago left out; no issuer: not known whose they are.",
            ("issuer", "outcome"),
            self._checks,
        )

    def _fetches(self) -> Series:
        for name, issuer in self.tokens.issuers.items():
            for outcome, count in issuer.keys.outcomes.items():
                yield (name, outcome), count

    def _ages(self) -> Series:
        now = time.monotonic()
        for name, issuer in self.tokens.issuers.items():
            if issuer.keys.keys is not None:
                yield (name,), issuer.keys.age(now)

    def _keys(self) -> Series:
        now = time.monotonic()
        for name, issuer in self.tokens.issuers.items():
            usable = issuer.keys.usable(now)
            yield (name,), 0 if usable is None else len(usable.keys)

    def _checks(self) -> Series:
        for flaw, count in self.tokens.strangers.items():
            yield ("", flaw), count
        for name, issuer in self.tokens.issuers.items():
            for outcome, count in issuer.outcomes.items():
                yield (name, outcome), count


def build_tokens(config: GatewayConfig, directory: Directory) -> TokenChecks:
    """For a configuration with a route that takes tokens."""
    asked = (route.allow.scopes for route in config.routes)
    issuers, sources, fetchers = [], [], {}
    for issuer in config.identity.issuers.values():
        keys = IssuerKeys(expire=issuer.jwks_url is not None)
        issuers.append(Issuer(issuer, keys))
        source = _source(issuer, keys)
        sources.append(source)
        if isinstance(source, KeyFetcher):
            fetchers[json.dumps([issuer.name, issuer.jwks_url, sorted(issuer.algorithms)])] = source
    return TokenChecks(Tokens(issuers, directory, frozenset().union(*asked)), tuple(sources), fetchers)


def _source(issuer: IssuerConfig, keys: IssuerKeys) -> KeyFetcher | KeyFile:
    make = partial(parse_set if issuer.secret_file is None else secret_set, algorithms=issuer.algorithms)
    if issuer.jwks_url is not None:
        return KeyFetcher(issuer.name, keys, issuer.jwks_url, issuer.ca_file, issuer.refresh, make, random.Random())
    file = issuer.jwks_file or issuer.secret_file
    assert file is not None  # noqa: S101 - an issuer has one of the three
    return KeyFile(issuer.name, keys, file, make)
