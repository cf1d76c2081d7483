"""A hook for the gateway: only known partners may ask, and their upstream learns what they have paid for.

    HOOKS_DIR=examples GATEWAY_CONFIG=examples/hooks.yaml gateway run

Everything that a hook needs of the gateway is in `gateway.hooks`; docs/hooks.md says the rest.
"""

from gateway.hooks import Refusal, RequestChanges, RequestHead, ResponseChanges, ResponseHead


class Partners:
    """`plans` are the partners with what each has paid for. `hidden` are fields of answers that stay inside."""

    def __init__(self, plans: dict[str, str], hidden: list[str]) -> None:
        self._plans = plans
        self._hidden = hidden

    def on_request(self, head: RequestHead) -> Refusal | RequestChanges:
        """Refuse who is no partner, and tell the upstream the plan of who is one."""
        partner = head.fields.get("X-Partner")
        plan = self._plans.get(partner)
        if plan is None:
            return Refusal(403, "X-Partner does not name a partner", code="partner_unknown")
        if head.path.startswith("/reports/") and plan != "gold":
            return Refusal(402, "reports are for the plan gold", code="plan_too_small")
        return RequestChanges(set={"X-Plan": plan})

    def on_response(self, head: ResponseHead) -> ResponseChanges:
        """Take out what partners need not know, and say whose answer it is, so that no cache gives it to another."""
        return ResponseChanges(append={"Vary": "X-Partner"}, remove=self._hidden)
