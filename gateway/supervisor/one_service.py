"""The supervisor's part in what makes several workers one service to those who look (`gateway.worker.one_service`).

    operation       from a worker                              answer
    hello           call, when it begins to serve              host, history, alerts as below
    beat            tell, once a second: its own figures       -
    snapshot        tell, from time to time, and at its end    -
    metrics         call, with its snapshot: it is scraped     see `Totals.gather`
    transition      tell: [upstream, [at, from, to, cause]]    -
    alerts          tell: the alerts, by the one that leads    -
    cleanup_alerts  tell: resolved alerts are to be forgotten  -
    key_sets        call, before it fetches: its sources       {source: [when, text]} see `KeySets`
    key_set         tell: [source, when, text], as fetched     -
    hour            call, when somebody looks at the last hour `Hour.all`

    operation       to the workers
    snapshot        call: what it has counted
    host            tell, once a second and at each change     `Board.as_data`
    history         tell: {upstream: [[at, from, to, cause]]}  those that have changed
    alerts          tell: what the one that leads says
    cleanup_alerts  tell

A worker that does not answer within `PATIENCE`, or has not said anything for `SILENCE`, is represented by what it said
last.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from gateway.supervisor.board import Board, State
from gateway.supervisor.hour import STEP, Hour
from gateway.supervisor.key_sets import KeySets
from gateway.supervisor.timeline import Timeline
from gateway.supervisor.totals import Totals, Worker

log = logging.getLogger("gateway.supervisor")

PATIENCE: Final = 0.5
SILENCE: Final = 2.5
INTERVAL: Final = 1.0
# While there are more scrapes in a second than this, snapshots of this age are good enough for another one.
_MANY: Final = 20
_FRESH: Final = 0.1


class Peer(Protocol):
    """The channel to one worker (`gateway.ipc.channel.Channel`)."""

    def call(self, operation: str, body: Any = None) -> asyncio.Future[Any]:
        """Ask it."""
        ...

    def tell(self, operation: str, body: Any = None) -> None:
        """Tell it, and expect no answer."""
        ...


class _Known:
    """What is kept of a worker beside its figures. Instants of the loop's clock."""

    __slots__ = ("heard_at", "peer", "put_at", "serves")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.serves = False
        self.heard_at = 0.0
        self.put_at = 0.0


class OneService:
    """`board` may be written by its owner; `changed` then tells the workers."""

    def __init__(self, board: Board | None = None) -> None:
        self.board = board or Board()
        self.totals = Totals()
        self.timeline = Timeline()
        self.hour = Hour()
        self._hour_due = 0.0
        self._key_sets = KeySets()
        self._alerts: Any = None
        self._known: dict[Worker, _Known] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._telling = False
        self._gathered_at: deque[float] = deque(maxlen=_MANY)

    def start(self) -> None:
        """Tell the workers once a second, on the running loop."""
        if self._timer is None:
            self._tick()

    def stop(self) -> None:
        """End that. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()

    def started(self, slot: int, pid: int, peer: Peer) -> None:
        """A worker process was made. Also for one that was taken over from the process before."""
        known = self._known[slot, pid] = _Known(peer)
        if (slot, pid) in self.totals.living:
            known.serves = True
        else:
            self.totals.started(slot, pid)
            self.board.started(slot, pid)
        self.changed()

    def state(self, slot: int, pid: int, state: State) -> None:
        """A worker has come into another state."""
        if self.board.state(slot, pid, state):
            self.changed()

    def ended(self, slot: int, pid: int, cause: str | None) -> None:
        """A worker is gone, and everything that it had sent was read. `cause` as `Board.ended` wants it."""
        self._known.pop((slot, pid), None)
        self._key_sets.ended((slot, pid))
        self.totals.ended(slot, pid)
        self.board.ended(slot, pid, cause)
        self.changed()

    def changed(self) -> None:
        """Tell the workers in this turn of the loop."""
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell_host)

    def serve(self, slot: int, pid: int, operation: str, body: Any, reply: Callable[[Any], None]) -> bool:
        """Serve what a worker asks or tells. Returns whether the operation is one of these."""
        worker = slot, pid
        known = self._known.get(worker)
        if known is None:
            return operation in _OPERATIONS
        known.heard_at = asyncio.get_running_loop().time()
        if operation == "beat":
            self.board.beat(slot, pid, body)
        elif operation == "snapshot":
            self._put(worker, body)
        elif operation == "metrics":
            self._put(worker, body)
            self._spawn(self._gather(worker, reply))
        elif operation == "hello":
            known.serves = True
            reply({"host": self.board.as_data(), "history": self.timeline.all(), "alerts": self._alerts})
        elif operation == "transition":
            upstream, transition = body
            if self.timeline.record(worker, upstream, transition):
                self._tell_others(None, "history", {upstream: self.timeline.of(upstream)})
        elif operation == "alerts":
            self._alerts = body
            self._tell_others(worker, "alerts", body)
        elif operation == "cleanup_alerts":
            if self._alerts is not None:
                self._alerts["resolved"] = []
            self._tell_others(worker, "cleanup_alerts", body)
        elif operation == "hour":
            reply(self.hour.all())
        elif operation == "key_sets":
            reply(self._key_sets.begun(worker, body))
        elif operation == "key_set":
            self._key_sets.fetched(worker, *body)
        else:
            return False
        return True

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data, for the next process of this supervisor."""
        return {
            "board": self.board.dump(),
            "totals": self.totals.dump(),
            "timeline": self.timeline.all(),
            "alerts": self._alerts,
            "key_sets": self._key_sets.dump(),
            "hour": self.hour.dump(),
        }

    def restore(self, dumped: dict[str, Any]) -> None:
        """Go on with what `dump` gave. `started` has to be called for each worker that is taken over."""
        self.board.restore(dumped["board"])
        self.totals = Totals.restored(dumped["totals"])
        self.timeline.restore(dumped["timeline"])
        self._alerts = dumped["alerts"]
        if "key_sets" in dumped:  # not from a version that kept none
            self._key_sets = KeySets.restored(dumped["key_sets"])
        if "hour" in dumped:  # likewise
            self.hour.restore(dumped["hour"])

    def _put(self, worker: Worker, snapshot: Any) -> None:
        known = self._known.get(worker)
        if known is not None:
            known.put_at = asyncio.get_running_loop().time()
            self.totals.put(*worker, snapshot)

    async def _gather(self, asking: Worker, reply: Callable[[Any], None]) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        many = len(self._gathered_at) == _MANY and now - self._gathered_at[0] < 1.0
        self._gathered_at.append(now)
        enough = _FRESH if many else 0.0
        asked: dict[asyncio.Future[Any], Worker] = {
            known.peer.call("snapshot"): worker
            for worker, known in self._known.items()
            if worker != asking and known.serves and now - known.heard_at < SILENCE and now - known.put_at >= enough
        }
        if asked:
            done, late = await asyncio.wait(asked, timeout=PATIENCE)
            for future in late:
                future.cancel()
            for future in done:
                # What fails is represented by what it said last.
                with contextlib.suppress(Exception):
                    self._put(asked[future], future.result())
        reply(self.totals.gather(asking))

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(INTERVAL, self._tick)
        if loop.time() >= self._hour_due:
            # At the same part of each ten seconds, however late a turn of the loop is.
            self._hour_due = max(self._hour_due + STEP, loop.time())
            self.hour.note(self.totals)
        self.changed()

    def _tell_host(self) -> None:
        self._telling = False
        self._tell_others(None, "host", self.board.as_data())

    def _tell_others(self, but: Worker | None, operation: str, body: Any) -> None:
        for worker, known in self._serving():
            if worker != but:
                known.peer.tell(operation, body)

    def _serving(self) -> Iterable[tuple[Worker, _Known]]:
        return [(worker, known) for worker, known in self._known.items() if known.serves]

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_OPERATIONS: Final = frozenset(
    {"hello", "beat", "snapshot", "metrics", "transition", "alerts", "cleanup_alerts", "key_sets", "key_set", "hour"}
)
