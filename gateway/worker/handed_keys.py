"""A worker's part in handing keys of issuers on to other workers; `gateway.supervisor.key_sets` has the other part."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from gateway.ipc.channel import CallFailed, ChannelLost
from gateway.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from gateway.identity.key_sources import KeyFetcher

log = logging.getLogger("gateway")


async def share_keys(fetchers: "Mapping[str, KeyFetcher]", supervisor: Supervisor) -> None:
    """Begin with the key sets that other workers have fetched, and tell of those that are fetched from now on. Call it
    before the fetchers are started. They go by a text that is another one for each source of keys."""
    if not fetchers:
        return
    try:
        kept = await supervisor.call("key_sets", list(fetchers))
    except (CallFailed, ChannelLost) as error:
        # A supervisor of an older version does not know the question, nor would it know the answers.
        log.warning("the supervisor has no keys of issuers: %s", error)
        return
    for source, fetcher in fetchers.items():
        if source in kept:
            begun_at, text = kept[source]
            fetcher.adopt(begun_at, text.encode())
        fetcher.on_fetched = partial(_tell, supervisor, source)


def _tell(supervisor: Supervisor, source: str, begun_at: float, text: bytes) -> None:
    supervisor.tell("key_set", [source, begun_at, text.decode()])
