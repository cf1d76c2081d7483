"""What `gateway routes` says about those who may ask."""

from gateway.config.report.cells import Tables
from gateway.config.sections.identity.model import ConsumerConfig, IdentityConfig, TierConfig
from gateway.config.sections.issuers.model import IssuerConfig


def callers(identity: IdentityConfig) -> Tables:
    """Tables that are there only where the file says something about callers."""
    if identity.tiers:
        yield "Tiers", [_tier(each) for each in identity.tiers.values()]
    if identity.tenants:
        yield "Tenants", [{"name": name, "tier": tier or "none"} for name, tier in identity.tenants.items()]
    if identity.consumers:
        yield "Consumers", [_consumer(each) for each in identity.consumers.values()]
    if identity.issuers:
        yield "Issuers", [_issuer(each) for each in identity.issuers.values()]


def _tier(tier: TierConfig) -> dict[str, str]:
    return {
        "name": tier.name,
        "rate limit": tier.rate_limit or "none",
        "at once": str(tier.concurrency or "unlimited"),
        "in a day": str(tier.quota_per_day or "unlimited"),
        "priority": tier.priority or "the route's",
    }


def _consumer(consumer: ConsumerConfig) -> dict[str, str]:
    return {
        "name": consumer.name,
        "tenant": consumer.tenant or "none",
        "scopes": " ".join(sorted(consumer.scopes)) or "none",
        "rate limit": consumer.rate_limit or "none",
        "keys": " ".join(key.id for key in consumer.keys) or "none here",
    }


def _issuer(issuer: IssuerConfig) -> dict[str, str]:
    return {
        "name": issuer.name,
        "issuer": issuer.issuer,
        "audience": " ".join(issuer.audience) or "none",
        "required claims": " ".join(f"{claim}={'|'.join(sorted(values))}" for claim, values in issuer.required_claims)
        or "none",
        "algorithms": " ".join(issuer.algorithms),
        "keys": issuer.jwks_url or issuer.jwks_file or str(issuer.secret_file),
        "consumer": f"{issuer.consumer_prefix}{{{issuer.consumer}}}",
        "tenant": issuer.tenant or (f"{{{issuer.tenant_claim}}}" if issuer.tenant_claim else "none"),
        "scopes": f"{{{issuer.scopes}}}",
        "fields": " ".join(f"{name}={{{claim}}}" for name, claim in issuer.fields) or "none",
    }
