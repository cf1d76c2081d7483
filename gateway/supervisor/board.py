"""What the supervisor knows of its workers, and what it tells each of them about all of them.

    {"wanted": 4, "stopping": false, "config_hash": "9f…", "since": …,
     "workers": [{"slot": 0, "pid": 71, "started_at": …, "state": "ready", …what the worker says of itself…}],
     "restarts": {"died": 1, "stalled": 0, "reload": 4, "upgrade": 0},
     "recent": [[seconds ago, slot, cause], …],
     "reload": {"successful": true, "at": …, "problems": []}}

`since` is when the service began; an upgrade in place does not change that. States: `starting` (not listening yet),
`ready`, `draining` (its successor has its socket), `stalled` (its event loop does not answer). What a worker says of
itself (`beat`) is passed on as it is; it is kept until it is said anew.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

State = Literal["starting", "ready", "draining", "stalled"]

CAUSES: Final = ("died", "stalled", "reload", "upgrade")
RECENT_SECONDS: Final = 300.0
_MOST_RECENT: Final = 64


class Board:
    """`clock` gives seconds since the epoch. `config_hash` is hexadecimal."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.wanted = 0
        self.stopping = False
        self.config_hash = ""
        self._clock = clock
        self._since = clock()
        self._workers: dict[tuple[int, int], dict[str, Any]] = {}
        self._restarts = dict.fromkeys(CAUSES, 0)
        self._recent: deque[tuple[float, int, str]] = deque(maxlen=_MOST_RECENT)
        self._reload: dict[str, Any] | None = None

    def started(self, slot: int, pid: int) -> None:
        """A worker process was made."""
        self._workers[slot, pid] = {"slot": slot, "pid": pid, "started_at": self._clock(), "state": "starting"}

    def state(self, slot: int, pid: int, state: State) -> bool:
        """A worker has come into a state. Returns whether that is news."""
        worker = self._workers.get((slot, pid))
        if worker is None or worker["state"] == state:
            return False
        worker["state"] = state
        return True

    def beat(self, slot: int, pid: int, numbers: dict[str, Any]) -> None:
        """What a worker says of itself."""
        worker = self._workers.get((slot, pid))
        if worker is not None:
            worker.update({name: value for name, value in numbers.items() if name not in _OURS})

    def ended(self, slot: int, pid: int, cause: str | None) -> None:
        """A worker is gone. `cause` says why it is replaced; None: it is not."""
        if self._workers.pop((slot, pid), None) is not None and cause is not None:
            self._restarts[cause] = self._restarts.get(cause, 0) + 1
            self._recent.append((self._clock(), slot, cause))

    def reloaded(self, problems: Iterable[str]) -> None:
        """A configuration was read: a good one where there are no problems. The start counts as a good one."""
        problems = list(problems)
        now = self._clock()
        before = self._reload or {}
        succeeded_at = before.get("succeeded_at") if problems else now
        self._reload = {"successful": not problems, "at": now, "succeeded_at": succeeded_at, "problems": problems}

    def as_data(self) -> dict[str, Any]:
        """See above."""
        now = self._clock()
        while self._recent and not 0 <= now - self._recent[0][0] <= RECENT_SECONDS:
            self._recent.popleft()
        return {
            "wanted": self.wanted,
            "stopping": self.stopping,
            "config_hash": self.config_hash,
            "since": self._since,
            "workers": list(self._workers.values()),
            "restarts": self._restarts,
            "recent": [[now - at, slot, cause] for at, slot, cause in self._recent],
            "reload": self._reload,
        }

    def dump(self) -> dict[str, Any]:
        """Everything, as plain data, for the next process of this supervisor."""
        return {**self.as_data(), "recent": [list(each) for each in self._recent]}

    def restore(self, dumped: dict[str, Any]) -> None:
        """Go on with what `dump` gave."""
        self.wanted, self.stopping, self.config_hash = dumped["wanted"], dumped["stopping"], dumped["config_hash"]
        self._since = dumped["since"]
        self._workers = {(each["slot"], each["pid"]): each for each in dumped["workers"]}
        self._restarts.update(dumped["restarts"])
        self._recent.extend((at, slot, cause) for at, slot, cause in dumped["recent"])
        self._reload = dumped["reload"]


_OURS: Final = frozenset({"slot", "pid", "started_at", "state"})
