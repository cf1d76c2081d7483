"""Replicas of an embedded store, each over a real pair of sockets, as the workers of one supervisor."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.ipc.channel import Channel, Reply
from gateway.store.served.client import ServedFigures, ServedStore
from gateway.store.served.server import StoreServer


class ServedStores:
    """Each replica has one channel for its store and its figures."""

    def __init__(self, server: StoreServer | None = None) -> None:
        self.server = server or StoreServer()
        self._channels: dict[str, tuple[Channel, Channel]] = {}

    async def channel(self, name: str) -> Channel:
        """The replica's end of its channel."""
        if name not in self._channels:
            ours, theirs = socket.socketpair()
            served = await Channel.over(ours, self.server.serve_for(name), lambda: None)
            self._channels[name] = served, await Channel.over(theirs, refuse, lambda: None)
        return self._channels[name][1]

    def store(self, name: str) -> Any:
        """The store as the replica of this name sees it, connected by its first call. The time limits are long:
        machines that run tests are busy."""

        async def connect() -> ServedStore:
            return ServedStore(await self.channel(name), least=5.0, most=5.0)

        return _Later(connect)

    def figures(self, name: str) -> Any:
        """The figures as the replica of this name sees them."""

        async def connect() -> ServedFigures:
            return ServedFigures(await self.channel(name))

        return _Later(connect)

    def cut(self, name: str) -> None:
        """The supervisor's end goes away."""
        self._channels[name][0].close()

    async def close(self) -> None:
        """Close every channel."""
        for pair in self._channels.values():
            for channel in pair:
                channel.close()
        await asyncio.sleep(0)


def refuse(operation: str, _body: object, reply: Reply) -> None:
    """A worker serves nothing on this channel."""
    reply.fail(operation)


class _Later:
    """A store that is made by the first call."""

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._made: Any = None

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            if self._made is None:
                self._made = await self._connect()
            # The circuits of the other stores end with this one.
            name = "close" if operation == "leave" else operation
            return await getattr(self._made, name)(*arguments, **named)

        return call
