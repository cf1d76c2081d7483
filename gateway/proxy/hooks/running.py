"""One hook of one route: called, timed, counted, and switched off for a while where it does harm.

What it raises never goes further, whatever it is: a hook that calls `sys.exit` must not end the worker. Its time cannot
be bounded while it runs, because nothing interrupts Python code on the event loop. So a slow call is counted, and a
hook that is often slow is not called for a while (`gateway.policy.hook_switch`); a call that does not end is ended with
its worker, by the supervisor.
"""

from collections.abc import Callable
from typing import Final

from gateway.config.sections.hooks.model import HookConfig, HookLimits
from gateway.hooks.loading import described
from gateway.policy.hook_switch import HookSwitch
from gateway.proxy.answers.refusals import Refusal, Refusals
from gateway.proxy.hooks.changes import ChangeError
from gateway.proxy.ticket import Ticket
from gateway.telemetry.log.hook_lines import HookLines
from gateway.telemetry.metrics.cells import Histogram

PASSED: Final = "passed"
CHANGED: Final = "changed"
REFUSED: Final = "refused"
RAISED: Final = "raised"
INVALID: Final = "invalid"
OFF: Final = "off"
OUTCOMES: Final = (PASSED, CHANGED, REFUSED, RAISED, INVALID, OFF)
"""What may come of a call: nothing, changes, a refusal; an exception, a result that is not allowed; not called, because
the hook is switched off."""

_BOUNDS: Final[tuple[float, ...]] = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_FAILED: Final = Refusal(500, "hook_failed", "a hook of the route has failed, and nothing passes without it")


def _switched_off(seconds: int) -> Refusal:
    detail = "a hook of the route is switched off, because it has failed, and nothing passes without it"
    return Refusal(503, "hook_failed", detail, seconds)


class Point:
    """One of the two methods of a hook. `counts` is by `OUTCOMES`, `slow` says how many of the calls were."""

    __slots__ = ("call", "counts", "duration", "slow")

    def __init__(self, call: Callable[..., object]) -> None:
        self.call = call
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.duration = Histogram(_BOUNDS)
        self.slow = 0


class RunningHook:
    """`name` is its label. `refuses`: nothing passes for which it fails. `request` and `response` are its methods, None
    for one that it does not have."""

    __slots__ = ("_limits", "_lines", "_off", "name", "refuses", "request", "response", "switch")

    def __init__(self, route: str, config: HookConfig, limits: HookLimits) -> None:
        self.name = config.name
        self.refuses = config.on_failure == "refuse"
        code = config.code
        self.request = None if code.on_request is None else Point(code.on_request)
        self.response = None if code.on_response is None else Point(code.on_response)
        self.switch = HookSwitch(limits.failures, limits.window, limits.pause)
        self._limits = limits
        self._lines = HookLines(route, config.name)
        self._off = Refusals(_switched_off)

    def off(self, ticket: Ticket, point: Point) -> Refusal | None:
        """It is switched off. Returns what the request gets, None where it goes on without the hook."""
        point.counts[OFF] += 1
        if not self.refuses:
            note(ticket, self.name, "skipped")
            return None
        note(ticket, self.name, OFF)
        return self._off.after(self.switch.off_until - ticket.now)

    def ended(self, ticket: Ticket, point: Point, outcome: str, began: float, ended: float) -> None:
        """A call is over that has not failed. HOT."""
        point.counts[outcome] += 1
        seconds = ended - began
        point.duration.observe(seconds)
        if seconds >= self._limits.slow:
            self._slow(ticket, point, seconds, ended)
            self._judge(ended, seconds, bad=True)
        elif self.switch.ended(ended, seconds, bad=False) == "on":
            self._lines.on()
        if outcome is not PASSED:
            note(ticket, self.name, outcome)

    def failed(self, ticket: Ticket, point: Point, error: BaseException, began: float, ended: float) -> Refusal | None:
        """A call has failed. Returns what the request gets, None where it goes on as if there were no hook."""
        outcome = INVALID if isinstance(error, ChangeError) else RAISED
        point.counts[outcome] += 1
        seconds = ended - began
        point.duration.observe(seconds)
        if seconds >= self._limits.slow:
            point.slow += 1
        if self._lines.due(ended):
            told = f"returned what is not allowed: {error}" if outcome is INVALID else f"raised {described(error)}"
            self._lines.bad("hook_failed", f"has {told}", ticket.request_id)
        self._judge(ended, seconds, bad=True)
        note(ticket, self.name, outcome)
        return _FAILED if self.refuses else None

    def _slow(self, ticket: Ticket, point: Point, seconds: float, now: float) -> None:
        point.slow += 1
        if self._lines.due(now):
            self._lines.bad(
                "hook_slow", f"took {seconds:.3f} s, in which this worker did nothing else", ticket.request_id
            )

    def _judge(self, now: float, seconds: float, *, bad: bool) -> None:
        if self.switch.ended(now, seconds, bad=bad) == "off":
            self._lines.off(self._limits.pause, self.switch.words, refuses=self.refuses)


def note(ticket: Ticket, hook: str, outcome: str) -> None:
    """In the access log, and in what is made of it: what each hook has done, in their order."""
    before = ticket.log_decisions.get("hooks")
    told = f"{hook} {outcome}"
    ticket.note("hooks", f"{before}, {told}" if before else told)
