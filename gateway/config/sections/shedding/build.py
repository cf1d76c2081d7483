"""From the settings of load shedding to what they mean, and what is wrong with them."""

from collections.abc import Iterable

from gateway.config.building.relations import check_queue
from gateway.config.building.sources import Sources
from gateway.config.sections.identity.model import IdentityConfig
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.shedding.model import SheddingConfig
from gateway.config.sections.shedding.settings import Shedding
from gateway.policy.limit import LimitSettings


def shedding_config(
    sources: Sources, shedding: Shedding, routes: Iterable[RouteConfig], who: IdentityConfig
) -> SheddingConfig:
    """The domain type. `routes` and `who` say whether anybody has a priority."""
    check_queue(shedding, (), sources.place("shedding"))
    limit = LimitSettings(shedding.limit, shedding.max_queue, shedding.queue_timeout)
    # As soon as anybody has a priority, those of whom nothing is said have the one in the middle.
    words = (*(route.priority for route in routes), *(tier.priority for tier in who.tiers.values()))
    header = shedding.priority_header
    priorities = header is not None or any(word is not None for word in words)
    return SheddingConfig(
        limit, shedding.status, shedding.retry_after, shedding.client_share, header, priorities=priorities
    )
