"""Clients that keep a gateway busy and notice whatever is lost."""

import time
from dataclasses import dataclass, field
from typing import Final

from tests.support.raw_http import RawClient
from tests.support.raw_response import NoResponse

_PAUSE: Final = 0.005
"""Between a client's requests: hundreds of them a second, and the processor free for what is to happen meanwhile."""


@dataclass
class Load:
    """Clients that send one request after the other on kept connections until they are told to go."""

    port: int
    answered: int = 0
    told_to_go: int = 0
    lost: list[str] = field(default_factory=list)
    refused: int = 0
    stopped: bool = False
    request: bytes = b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n"

    def run(self) -> None:
        while not self.stopped:
            try:
                client = RawClient(self.port)
            except OSError:
                self.refused += 1
                return  # the listener is gone: nothing was accepted
            with client:
                self._converse(client)

    def _converse(self, client: RawClient) -> None:
        while not self.stopped:
            try:
                client.send(self.request)
                response = client.read_response()
            except (NoResponse, OSError) as error:
                self.lost.append(repr(error))
                return
            if response.status != 200 or not response.complete:
                self.lost.append(repr(response))
                return
            self.answered += 1
            if response.get("Connection") == "close":
                self.told_to_go += 1
                return
            time.sleep(_PAUSE)
