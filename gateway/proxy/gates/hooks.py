"""Python hooks of a route that are asked about requests (docs/hooks.md).

    a hook refuses                        its status         `hook_refused`
    it fails, and nothing may pass then   500                `hook_failed`
    it is switched off, likewise          503                `hook_failed`

It comes behind what says who asks and how often, so that a flood costs no call of a hook, and before validation, which
judges what the upstream would get. Each hook is called once for a request, whatever becomes of it later.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, ClassVar

from gateway.config.sections.hooks.model import HookConfig, HookLimits
from gateway.hooks import Refusal as AskedRefusal
from gateway.hooks import RequestChanges
from gateway.hooks.loading import described, dropped
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.gate import PASS, Gate, Question, Step, Verdict, step
from gateway.proxy.hooks.changes import ChangeError, RouteRules, changed_path, refusal_of, request_edits
from gateway.proxy.hooks.heads import changed_head, request_head
from gateway.proxy.hooks.running import CHANGED, PASSED, REFUSED, Point, RunningHook
from gateway.proxy.requests.hooked import Hooked
from gateway.proxy.ticket import Ticket


class HooksGate(Gate):
    """That of one route. `running` are its hooks in their order, `responding` those that are asked about answers."""

    name: ClassVar[str] = "hooks"

    def __init__(
        self,
        route: str,
        hooks: tuple[HookConfig, ...],
        limits: HookLimits,
        rules: RouteRules,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.rules = rules
        self.clock = clock
        self.running = tuple([RunningHook(route, each, limits) for each in hooks])
        self.responding = tuple([(each, each.response) for each in self.running if each.response is not None])
        self._asked = tuple([(each, each.request) for each in self.running if each.request is not None])
        self._described: dict[str, object] = {
            "hooks": ", ".join(each.name for each in hooks),
            "on_failure": ", ".join(each.on_failure for each in hooks),
        }

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        ticket.hooked = hooked = Hooked(request_head(ticket), ticket.request.path)
        for hook, point in self._asked:
            if ticket.now < hook.switch.off_until:
                refusal = hook.off(ticket, point)
            else:
                refusal = self._call(ticket, hooked, hook, point)
            if refusal is not None:
                return refusal
        return PASS

    def describe(self) -> Mapping[str, object]:
        """The hooks, and what becomes of a request for which one fails."""
        return self._described

    async def explain(self, question: Question) -> Step:
        """No hook is called: it may do something. Said is which there are, and which is switched off."""
        figures: dict[str, Any] = {}
        off: list[RunningHook] = []
        for hook, point in self._asked:
            left = hook.switch.off_until - question.now
            figures |= {f"{hook.name}: {outcome}": count for outcome, count in point.counts.items()}
            figures[f"{hook.name}: off for"] = round(max(0.0, left), 3)
            if left > 0.0:
                off.append(hook)
        for hook in off:
            if hook.refuses:
                left = hook.switch.off_until - question.now
                detail = f"The hook {hook.name} is switched off, because it has failed, and nothing passes without it."
                return step(self.name, "refuse", detail, 503, "hook_failed", left, figures)
        names = ", ".join(hook.name for hook, _ in self._asked) or "none"
        detail = f"These hooks are asked, and what they say is not known before: {names}."
        detail += "".join(f" {hook.name} is switched off, and left out." for hook in off)
        return step(self.name, "none", detail, figures=figures)

    def _call(self, ticket: Ticket, hooked: Hooked, hook: RunningHook, point: Point) -> Refusal | None:
        """Returns the refusal that the request gets, None where it goes on. HOT."""
        clock = self.clock
        began = clock()
        try:
            result = point.call(hooked.head)
        except BaseException as raised:  # noqa: BLE001 - whatever code of others raises ends here
            return hook.failed(ticket, point, raised, began, clock())
        ended = clock()
        if result is None:
            hook.ended(ticket, point, PASSED, began, ended)
            return None
        try:
            refusal = self._taken(ticket, hooked, result)
        except Exception as wrong:  # noqa: BLE001 - it may be of any kind, with attributes of any type
            invalid = wrong if isinstance(wrong, ChangeError) else ChangeError(described(wrong))
            return hook.failed(ticket, point, invalid, began, ended)
        hook.ended(ticket, point, CHANGED if refusal is None else REFUSED, began, ended)
        return refusal

    def _taken(self, ticket: Ticket, hooked: Hooked, result: object) -> Refusal | None:
        """Do what a hook wants: returns its refusal, None where it wants changes, which are noted. Raises what comes
        of a result that makes no sense."""
        if isinstance(result, AskedRefusal):
            return refusal_of(result)
        if not isinstance(result, RequestChanges):
            dropped(result)
            raise ChangeError(f"{type(result).__name__}, where Refusal, RequestChanges or None is meant")
        edits = request_edits(result, self.rules)
        path = changed_path(result, hooked.path, self.rules)
        if edits is not None or path is not None:
            hooked.change(edits, path)
            hooked.head = changed_head(ticket, hooked)
        return None
