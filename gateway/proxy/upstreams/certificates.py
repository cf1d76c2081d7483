"""The certificates for upstreams, which are renewed while the process runs: authorities and client certificates.

The files of each upstream are watched, and read anew when they have changed. What cannot be used is logged, and what
was read before stays in use. An authority that is no longer in its file is trusted until the next reload, which begins
with the files alone.
"""

import asyncio
import logging
from collections.abc import Iterable

from gateway.background import Background
from gateway.proxy.upstreams.upstream import Upstream
from gateway.system.watched_files import INTERVAL, WatchedFiles

log = logging.getLogger("gateway")


class UpstreamCertificates:
    """Looks after the certificates of these upstreams, from `start` to `stop`."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._watched = [
            (upstream, WatchedFiles(files)) for upstream in upstreams if (files := upstream.certificate_files)
        ]
        self._background = Background(self._watch, "upstream-certificates")

    def start(self) -> None:
        """Watch from now on. Without effect where there is nothing to watch."""
        if self._watched:
            self._background.start()

    async def stop(self) -> None:
        """Watch no longer. Idempotent."""
        await self._background.stop()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            for upstream in await asyncio.to_thread(self._changed):
                try:
                    upstream.read_certificates_again()
                except OSError as error:
                    # ssl.SSLError is one, too.
                    log.error("the certificates for upstream %s cannot be read again: %s", upstream.name, error)  # noqa: TRY400 - the reason is in the message
                else:
                    log.info("the certificates for upstream %s were read again", upstream.name)

    def _changed(self) -> list[Upstream]:
        return [upstream for upstream, files in self._watched if files.changed()]
