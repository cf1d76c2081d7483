"""One worker: it does what the supervisor tells it.

    read        the configuration, and say what is in it
    begin       build everything from what was read, by this worker or by another one, take the sockets, and say when
                it is ready
    accept      serve
    stand_in    accept on the sockets of another slot too, which has no worker
    give_back   leave them to the worker that the slot has again
    drain       stop to accept, finish what is in flight, end
    hurry       finish nothing

A supervisor that is gone is an order to drain. SIGTERM asks the supervisor for another worker in the place of this one;
an operator who wants the service to end sends it to the supervisor.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gateway.config import ConfigError, Loaded
from gateway.config.building.origins import Origin
from gateway.config.command_line import Given
from gateway.config.model import GatewayConfig
from gateway.config.sections.log.model import LogConfig
from gateway.config.worker_shares import share_of
from gateway.ipc.channel import Channel, Reply
from gateway.ipc.socket_purposes import ADMIN, LISTENER
from gateway.telemetry.log import application
from gateway.telemetry.log.files import LogFiles
from gateway.telemetry.log.lines import LineWriter
from gateway.worker.reading import read_again, read_anew

if TYPE_CHECKING:
    from gateway.assembly.lifecycle import Lifecycle
    from gateway.worker.one_service import OneService

log = logging.getLogger("gateway")


class _ToSupervisor:
    """See `gateway.worker.supervisor.Supervisor`."""

    def __init__(self, channel: Channel, slot: int) -> None:
        self.slot = slot
        self.call = channel.call
        self.tell = channel.tell


class Worker:
    """The life of one worker. `gift` is the socket on which listening sockets come."""

    def __init__(self, gift: socket.socket) -> None:
        self._gift = gift
        self._read: Loaded | None = None
        self._control: Channel
        self._store: Channel
        self._begun: asyncio.Future[tuple[dict[str, Any], Reply]] = asyncio.get_running_loop().create_future()
        self._accept = asyncio.Event()
        self._drain: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._hurry = asyncio.Event()
        self._one_service: OneService | None = None
        self._lasting: Sequence[str] = ()
        """The purposes whose sockets the service manager keeps when the gateway ends."""
        self._life: Lifecycle | None = None
        self._standing_in: set[asyncio.Task[None]] = set()

    async def run(self, control: socket.socket, store: socket.socket) -> int:
        """Returns the exit status."""
        loop = asyncio.get_running_loop()
        self._control = await Channel.over(control, self._serve, self._left_alone)
        self._store = await Channel.over(store, self._refuse, lambda: None)
        loop.add_signal_handler(signal.SIGTERM, self._told_to_end)
        await _either(self._begun, self._drain)
        if not self._begun.done():
            return 0
        order, reply = self._begun.result()
        self._lasting = order["lasting"]
        try:
            loaded = self._read or read_again(order["environ"], Given(*order["given"]), order["texts"])
            config = share_of(loaded.config, order["workers"], order["slot"])
        except ConfigError as error:
            reply.fail(str(error))
            return 1
        return await self._live(config, loaded.origins, order, reply)

    async def _live(
        self, config: GatewayConfig, origins: Sequence[Origin], order: Mapping[str, Any], reply: Reply
    ) -> int:
        from gateway.assembly.gateway import build  # noqa: PLC0415 - who only reads a configuration needs no data plane
        from gateway.assembly.lifecycle import Lifecycle  # noqa: PLC0415

        writer = LineWriter(sys.stdout.fileno())
        files = _log_files(config.log)
        restore = application.configure(
            config.log.level,
            config.log.format,
            writer.write,
            files.handlers() if files is not None else (),
            worker=order["slot"] if order["workers"] > 1 else None,
        )
        try:
            supervisor = _ToSupervisor(self._control, order["slot"])
            gateway = build(config, writer, files, supervisor, self._store, origins)
            self._one_service = gateway.one_service
            self._life = life = Lifecycle(gateway, self._sockets(order["sockets"]))
            try:
                await life.prepare()
            except OSError as error:
                reply.fail(str(error))
                await life.close()
                return 1
            reply({"ready": True})
            await self._serve_until_drained(life)
            return 0
        finally:
            restore()
            writer.close()
            if files is not None:
                files.close()
            self._store.close()
            self._control.close()

    async def _serve_until_drained(self, life: "Lifecycle") -> None:
        accept = asyncio.ensure_future(self._accept.wait())
        await _either(accept, self._drain)
        if self._accept.is_set():
            await life.accept()
            order = await self._drain
            closing = [purpose for purpose in order["closing"] if purpose not in self._lasting]
            await life.stop_accepting(self._hurry, closing, final=order["final"])
            self._control.tell("closed", order["closing"])
            await life.finish(self._hurry, final=order["final"])
        accept.cancel()
        await life.close()

    def _sockets(self, counts: Mapping[str, int]) -> dict[str, list[socket.socket]]:
        """The listening sockets, which the supervisor has sent before it told of them."""
        fds: list[int] = []
        while len(fds) < sum(counts.values()):
            _, more, _, _ = socket.recv_fds(self._gift, 1, 255)
            if not more:
                raise OSError("the supervisor has sent no sockets")
            fds += more
        sockets = iter([socket.socket(fileno=fd) for fd in fds])
        return {purpose: [next(sockets) for _ in range(count)] for purpose, count in counts.items()}

    def _serve(self, operation: str, body: Any, reply: Reply) -> None:
        match operation:
            case "read":
                facts, self._read = read_anew(body["environ"], Given(*body["given"]))
                reply(facts)
            case "begin":
                self._begun.set_result((body, reply))
            case "accept":
                self._accept.set()
            case "stand_in":
                self._stand_in(body["slot"], self._sockets(body["sockets"]))
            case "give_back":
                if self._life is not None:
                    self._life.give_back(body["slot"])
            case "drain":
                self._told_to_drain(body)
            case "hurry":
                self._hurry.set()
            case _:
                if self._one_service is None or not self._one_service.serve(operation, body, reply):
                    raise ValueError(f"there is no operation {operation!r}")

    def _stand_in(self, slot: int, sockets: dict[str, list[socket.socket]]) -> None:
        if self._life is None or self._drain.done():
            for sock in [sock for several in sockets.values() for sock in several]:
                sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._life.stand_in(slot, sockets))
        self._standing_in.add(task)
        task.add_done_callback(self._standing_in.discard)

    @staticmethod
    def _refuse(operation: str, _body: Any, reply: Reply) -> None:
        reply.fail(f"a worker serves no store ({operation!r})")

    def _told_to_drain(self, order: dict[str, Any]) -> None:
        if not self._drain.done():
            self._drain.set_result(order)

    def _told_to_end(self) -> None:
        """SIGTERM. The supervisor has another worker take over, or ends with all of them."""
        if self._drain.done():
            self._hurry.set()
        elif self._accept.is_set():
            log.info("SIGTERM received: another worker is to take over")
            self._control.tell("relieve")
        else:
            self._told_to_drain({"final": False, "closing": []})

    def _left_alone(self) -> None:
        if not self._drain.done() and self._accept.is_set():
            log.error("the supervisor is gone: this worker finishes what it has, and ends")
        self._told_to_drain({"final": True, "closing": [LISTENER, ADMIN]})


async def _either(*futures: "asyncio.Future[Any]") -> None:
    """Wait until one of them is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _log_files(config: LogConfig) -> LogFiles | None:
    if config.dir is None:
        return None
    return LogFiles(config.dir, retention_days=config.retention_days, max_bytes=config.max_file_bytes)
