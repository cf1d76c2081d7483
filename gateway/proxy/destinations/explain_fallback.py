"""What the fallback of a route would make of a request that is refused now (`gateway.proxy.routes.explain`)."""

from typing import NamedTuple

from gateway.proxy.destinations.fallback import Fallback, Hop, cause_of
from gateway.proxy.gate import Question, Step, step


class Instead(NamedTuple):
    """`step` is that of the explanation. `hop` is where the request would go on to, `waits` in a queue there.
    `answered` says that it would get the fixed response, `refusal` what refuses it in the end."""

    step: Step
    hop: Hop | None = None
    waits: bool = False
    answered: bool = False
    refusal: Step | None = None


async def explain_fallback(
    fallback: Fallback, hops: tuple[Hop, ...], refusal: Step | None, question: Question
) -> Instead:
    """`hops` are where the request may go on to. `refusal` is what the gates of the route have said, None where they
    pass the request. Nothing is taken."""
    names = ", ".join(hop.upstream.name for hop in hops)
    on = ", ".join(fallback.conditions)
    figures = {"on": on, "upstreams": names}
    if refusal is None:
        then = [f"it goes on to {names}"] if names else []
        then += ["it gets the last good answer, if there is one"] if fallback.last_good is not None else []
        then += ["it gets the fixed response"] if fallback.has_response else []
        # On a route with a split the only other upstream may be the one that was chosen.
        detail = f"On {on} {', then '.join(then or ['it is refused: nobody else is left'])}."
        return Instead(step("fallback", "none", detail, figures=figures))
    if not fallback.takes(refusal["reason"]):
        return Instead(step("fallback", "none", f"{refusal['reason']} is no reason for it.", figures=figures))
    for hop in hops:
        cause = cause_of(refusal["reason"])
        asked = [await gate.explain(question) for gate in hop.chain.gates[fallback.shared :]]
        against = next((each for each in asked if each["decision"] == "refuse"), None)
        if against is None:
            waits = any(each["decision"] == "wait" for each in asked)
            detail = f"It goes on to {hop.upstream.name} ({cause})."
            return Instead(step("fallback", "wait" if waits else "allow", detail, figures=figures), hop, waits)
        refusal = against
        if not fallback.takes(refusal["reason"]):
            break
    if fallback.has_response and fallback.takes(refusal["reason"]):
        detail = f"It gets the fixed response ({cause_of(refusal['reason'])})."
        return Instead(step("fallback", "allow", detail, figures=figures), answered=True)
    detail = "No upstream would take it now."
    status, reason, retry_after = refusal["status"], refusal["reason"], refusal["retry_after"]
    refused = step("fallback", "refuse", detail, status, reason, retry_after, figures)
    return Instead(refused, refusal=refusal)
