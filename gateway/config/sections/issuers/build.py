"""The issuers of the file, and what no single one of their settings can tell.

What an algorithm can be checked with depends on where the keys are: only a secret, which is in a file of its own, can
be for HS256 and its like, and only key pairs can be published (RFC 8725 section 3.1). Keys that are in files are read
here, so that `gateway check` says what is wrong with them.
"""

import ssl
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from gateway.config.building.sources import Sources
from gateway.config.problems import MASK, Notice, nearest, shown
from gateway.config.sections.issuers.model import IssuerConfig
from gateway.config.sections.issuers.settings import FileIssuer
from gateway.config.sections.routes.settings import FileRoute
from gateway.jose.algorithms import SYMMETRIC
from gateway.syntax import hosts

_SOURCES = ("jwks_url", "jwks_file", "secret_file")
_ONE_SOURCE = "exactly one of jwks_url, jwks_file and secret_file"


def issuers_of(sources: Sources, issuers: Mapping[str, FileIssuer], api_key_header: str) -> Mapping[str, IssuerConfig]:
    """The issuers by name. What is wrong with them is reported."""
    seen: dict[str, str] = {}
    for name, issuer in issuers.items():
        first = seen.setdefault(issuer.issuer, name)
        if first != name:
            _report(sources, name, "issuer", shown(issuer.issuer), f"an issuer of its own; {first} has the same")
        _check_keys(sources, name, issuer)
        if not issuer.audience and not issuer.required_claims:
            source = sources.tree.source(("issuers", name, "audience"))
            said = "none without required_claims: whatever the issuer has signed counts, for whichever program it was"
            sources.notices.append(Notice(source, said))
        if issuer.tenant is not None and issuer.claims.tenant is not None:
            _report(sources, name, "tenant", shown(issuer.tenant), "either tenant or claims.tenant")
        if any(field.lower() == api_key_header.lower() for field in issuer.fields):
            _report(sources, name, "fields", shown(api_key_header), "another field than the one of API keys")
    return MappingProxyType({name: _issuer(name, each) for name, each in issuers.items()})


def check_issuers_of_routes(sources: Sources, routes: Iterable[tuple[int, FileRoute]], known: list[str]) -> None:
    """Routes of the file that take tokens name issuers that there are; `known` are their names."""
    for index, route in routes:
        for name in route.issuers:
            if name not in known:
                allowed = ", ".join(known) or "no names yet: the file defines no issuers"
                sources.refuse(("routes", index, "issuers"), shown(name), allowed, nearest(name, known))
        for key, given in (("issuers", bool(route.issuers)), ("forward_token", not route.forward_token)):
            if given and "jwt" not in route.authentication:
                sources.refuse(("routes", index, key), shown(getattr(route, key)), "only with authentication: jwt")
        if "jwt" in route.authentication and not known:
            location = ("routes", index, "authentication")
            # The environment may have said so for a route that says nothing.
            sources.refuse(location if sources.tree.holds(location) else ("routes", index), shown("jwt"), _NO_ISSUERS)


def check_issuers_of_environment(sources: Sources, known: list[str]) -> None:
    """AUTHENTICATION=jwt needs issuers, too."""
    place = sources.place("routes")
    if "jwt" in sources.settings.routes.authentication and not known and place.given(("authentication",)):
        place.report(("authentication",), "jwt", _NO_ISSUERS)


_NO_ISSUERS = "jwt only with issuers in the YAML file: nobody's tokens would count"


def _check_keys(sources: Sources, name: str, issuer: FileIssuer) -> None:
    given = [key for key in _SOURCES if getattr(issuer, key) is not None]
    if len(given) != 1:
        where = given[1] if given else "jwks_url"
        _report(sources, name, where, shown(getattr(issuer, where)) if given else "missing", _ONE_SOURCE)
        return
    mistakes = list(_mistakes_of_algorithms(issuer))
    for key, value, allowed in (*mistakes, *_mistakes_of_url(issuer)):
        _report(sources, name, key, value, allowed)
    if not mistakes and issuer.jwks_url is None:
        _check_file(sources, name, issuer, given[0])


def _mistakes_of_algorithms(issuer: FileIssuer) -> Iterator[tuple[str, str, str]]:
    for algorithm in issuer.algorithms:
        if algorithm in SYMMETRIC and issuer.secret_file is None:
            allowed = "only with secret_file: a key set is public, and whoever knows it could sign"
            yield "algorithms", shown(algorithm), allowed
        elif algorithm not in SYMMETRIC and issuer.secret_file is not None:
            yield "algorithms", shown(algorithm), f"{', '.join(sorted(SYMMETRIC))}: a secret makes nothing else"


def _mistakes_of_url(issuer: FileIssuer) -> Iterator[tuple[str, str, str]]:
    url = issuer.jwks_url
    if url is None:
        if issuer.ca_file is not None:
            yield "ca_file", shown(issuer.ca_file), "only with jwks_url"
        return
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not (host == "localhost" or hosts.is_loopback(host)) and not issuer.allow_http:
        allowed = "https://…: whoever is between could put keys of his own there; or allow_http: true"
        yield "jwks_url", shown(url), allowed
    if issuer.ca_file is not None:
        allowed = "only with https://" if parts.scheme == "http" else _not_authorities(issuer.ca_file)
        if allowed:
            yield "ca_file", shown(issuer.ca_file), allowed


def _not_authorities(file: str) -> str:
    """What a file of CA certificates would have to be that is none; empty where it is one."""
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ValueError):
        # `ssl.SSLError` is an OSError.
        return "the path of a readable file of CA certificates in PEM form"
    return ""


def _check_file(sources: Sources, name: str, issuer: FileIssuer, key: str) -> None:
    # It takes a library with it that a configuration without issuers does not need.
    from gateway.jose.jwk import MOST_BYTES, KeysError, parse_set, secret_set  # noqa: PLC0415

    secret = key == "secret_file"
    try:
        with Path(getattr(issuer, key)).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        keys = (secret_set if secret else parse_set)(data, issuer.algorithms)
    except (OSError, ValueError) as error:
        # Where somebody writes the secret in place of the path it must not be shown.
        value = MASK if secret else shown(getattr(issuer, key))
        allowed = "the path of a readable file"
        if isinstance(error, KeysError):
            value, allowed = shown(getattr(issuer, key)), f"a file that can be used: {error}"
        _report(sources, name, key, value, allowed)
        return
    for skipped in keys.skipped:
        sources.notices.append(Notice(sources.tree.source(("issuers", name, key)), f"{skipped}; it is not used"))


def _report(sources: Sources, name: str, key: str, value: str, allowed: str) -> None:
    location = ("issuers", name, key)
    sources.refuse(location if sources.tree.holds(location) else ("issuers", name), value, allowed)


def _issuer(name: str, issuer: FileIssuer) -> IssuerConfig:
    prefix = issuer.consumer_prefix
    return IssuerConfig(
        name=name,
        issuer=issuer.issuer,
        audience=tuple(issuer.audience),
        algorithms=tuple(dict.fromkeys(issuer.algorithms)),
        jwks_url=issuer.jwks_url,
        jwks_file=issuer.jwks_file,
        secret_file=issuer.secret_file,
        ca_file=issuer.ca_file,
        refresh=issuer.refresh,
        typ=issuer.typ,
        required_claims=tuple((claim, frozenset(values)) for claim, values in issuer.required_claims.items()),
        skew=issuer.skew,
        max_token_bytes=issuer.max_token_bytes,
        consumer=issuer.claims.consumer,
        # Who somebody is there and who somebody is here must not be mixed up unless somebody says so.
        consumer_prefix=f"{name}:" if prefix is None else prefix,
        tenant=issuer.tenant,
        tenant_claim=issuer.claims.tenant,
        scopes=issuer.claims.scopes,
        fields=tuple(issuer.fields.items()),
    )
