"""`gateway top`: the services of a gateway as they are, once a second, what hurts first.

It follows `GET /api/resilience/live` in a thread and draws with rich. A connection that is lost is made anew; the
figures before it stay, with a line that says so. `q` or Ctrl-C ends it. Where the output is no terminal, it is printed
once.
"""

import argparse
import contextlib
import queue
import select
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from gateway.operator.client import Client, NoAnswerError, RefusedError
from gateway.operator.output import write_json
from gateway.operator.top_screen import LINE, screen
from gateway.syntax.merge_patch import patched

PATH: Final = "/api/resilience/live"
_PAUSE: Final = 1.0
_LOOK: Final = 0.2


class Seen:
    """What was heard of the gateway so far."""

    def __init__(self) -> None:
        self.live: dict[str, Any] = {}
        self.lines: dict[str, list[float]] = {}
        self.errors: deque[dict[str, Any]] = deque(maxlen=200)
        self.lost = ""

    def take(self, name: str, data: Any) -> None:
        """One event of the stream, or `lost` with why it has ended."""
        if name == "lost":
            self.lost = data
            return
        if name == "errors":
            # At the beginning of a stream the latest ones are told again.
            known = {(each["requestId"], each["attempt"], each["reason"]) for each in self.errors}
            for each in data["errors"]:
                if (each["requestId"], each["attempt"], each["reason"]) not in known:
                    self.errors.appendleft(each)
            return
        if name not in {"snapshot", "patch"}:
            return
        self.lost = ""
        self.live = data if name == "snapshot" else patched(self.live, data)
        services = self.live["services"]
        self.lines = {each: [*self.lines.get(each, []), services[each]["requests"]][-LINE:] for each in services}


def run(client: Client, arguments: argparse.Namespace) -> int:
    """Show it until it is ended. Returns 0. Raises what `Client` raises where there was never an answer."""
    if arguments.json:
        write_json(client.get(PATH))
        return 0
    console = Console(highlight=False, markup=False)
    if arguments.once or not console.is_terminal:
        seen = Seen()
        seen.take("snapshot", client.get(PATH))
        console.print(_drawn(seen, arguments.sort, console, height=10_000))
        return 0
    events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    first = client.events(PATH)
    # Where nobody answers, this is where the command ends.
    events.put(next(first, ("lost", "The gateway starts anew.")))
    threading.Thread(target=_follow, args=(client, first, events), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt), _keys() as quits:
        _show(console, events, arguments.sort, quits)
    return 0


def _follow(client: Client, first: Iterator[tuple[str, Any]], events: "queue.SimpleQueue[tuple[str, Any]]") -> None:
    stream = first
    while True:
        try:
            for event in stream:
                events.put(event)
            why = "The gateway starts anew."
        except (NoAnswerError, RefusedError) as error:
            why = f"{error}."
        events.put(("lost", f"{why} Trying again…"))
        time.sleep(_PAUSE)
        stream = client.events(PATH)


def _show(console: Console, events: "queue.SimpleQueue[tuple[str, Any]]", sort: str, quits: "_Quits") -> None:
    seen = Seen()
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while not quits():
            with contextlib.suppress(queue.Empty):
                seen.take(*events.get(timeout=_LOOK))
                while True:
                    seen.take(*events.get_nowait())
            if seen.live:
                live.update(_drawn(seen, sort, console, height=console.height), refresh=True)


def _drawn(seen: Seen, sort: str, console: Console, *, height: int) -> Any:
    return screen(seen.live, seen.lines, seen.errors, sort=sort, height=height, width=console.width, lost=seen.lost)


class _Quits:
    """Whether `q` was pressed. Without a terminal for input nobody can."""

    def __call__(self) -> bool:
        if not sys.stdin.isatty():
            return False
        readable, _, _ = select.select([sys.stdin], [], [], 0)
        return bool(readable) and sys.stdin.read(1) in {"q", "Q", "\x03"}


@contextlib.contextmanager
def _keys() -> Iterator[_Quits]:
    """Keys come one by one and are not echoed, until the end."""
    if not sys.stdin.isatty():
        yield _Quits()
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _Quits()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
