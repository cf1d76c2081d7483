"""One request's life, as its client sees it: through the gates, to the forwarder, and back.

    front -> gates -> forward -> answer -> recorder

The request body is held while nothing takes it, with the client's connection not being read, so it costs one read's
worth of memory. How the client is answered, and how an exchange ends, stands in `answering.py`.
"""

import time
from typing import Final

from gateway.policy.outcome import IGNORED
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import STOPPING, Refusal
from gateway.proxy.errands.mirror_copy import Copy
from gateway.proxy.exchanges.answering import Answering
from gateway.proxy.forward.making import forward_of
from gateway.proxy.gate import PASS, Resumption
from gateway.proxy.gates.passage import Passage
from gateway.proxy.routes.plan import body_too_large
from gateway.wire.message.request import RequestError

_CLIENT_CLOSED: Final = 499


class Exchange(Answering):
    """Made for a request that no gate has refused at once."""

    __slots__ = ()

    def __repr__(self) -> str:
        state = "responding" if self.responded else "forwarding" if self._forward else "waiting"
        return f"<Exchange {'finished' if self.finished else state} {self.ticket!r}>"

    # Admission.

    def wait(self) -> None:
        """For the gate that could not answer at once; those before it are entered."""
        route, deadlines = self._route, self.runtime.deadlines
        self._passage = passage = Passage(
            route.chain, self.ticket, self._passed, self.waits, self.failed, deadlines, route.total_timeout
        )
        passage.wait()

    def go(self) -> None:
        """Every gate is entered. HOT."""
        if self.plan.mirrored:
            self._mirror()
        self._forward = forward = forward_of(self.runtime, self.ticket, self.plan, self.body, self)
        forward.begin(self.ticket.now)

    def _mirror(self) -> None:
        """Before any of the body is sent, and let go of."""
        mirror, request = self._route.mirror, self.ticket.request
        if mirror is not None and mirror.chooses(request):
            Copy(mirror, self.runtime, self.plan, self.ticket, self.body)

    def fall_back(self, refusal: Refusal) -> None:
        """A gate of the upstream has refused the request, and the route has a fallback that takes such refusals."""
        self._forward = forward = forward_of(self.runtime, self.ticket, self.plan, self.body, self)
        forward.refused_before(refusal)

    def _passed(self, verdict: Resumption) -> None:
        self._passage = None
        fallback = self._route.fallback
        if verdict is PASS:
            self.go()
        elif isinstance(verdict, OwnAnswer):
            self.answer_itself(verdict)
        elif fallback is not None and fallback.takes(verdict.reason):
            self.fall_back(verdict)
        else:
            self.refuse(verdict)

    # What the client's connection tells (gateway.wire.ports.Exchange).

    def request_body(self, data: bytes) -> None:
        """A piece of the request body. HOT."""
        body = self.body
        body.received += len(data)
        limit = self._route.max_body_bytes
        # Not read from `self` in the condition: the compiler would take it for None to the end, whatever `hold` does.
        forward = self._forward
        if limit is not None and body.received > limit:
            self.request_failed(body_too_large(limit))
        elif forward is not None:
            forward.request_body(data)
        else:
            body.hold(data)
            # Who collected it may have gone on, because it is too large: then the forwarder says what it wants.
            if self._forward is None and not self.finished:
                self.want_body(body.collecting)

    def request_end(self) -> None:
        """The whole request has arrived."""
        # Nothing is left to be held back, and only a connection that is read tells when its client leaves.
        self.connection.resume_reading()
        self.body.end()
        if self._forward is not None:
            self._forward.request_body_end()

    def request_failed(self, error: RequestError) -> None:
        """The request body is malformed, too large or too slow; no more of it will come."""
        self._stop(Refusal(error.status, error.reason, error.detail, close=True))

    def client_gone(self) -> None:
        """Nothing can be answered any more."""
        if self.finished:
            return
        if self._forward is not None:
            self._forward.cancel(client_left=True)
        self.runtime.recorder.client_closed()
        if not self.responded:
            self.ticket.status = _CLIENT_CLOSED
        self.ticket.reason = "client_closed"
        self._end(IGNORED, time.monotonic())

    def gateway_stops(self) -> None:
        """There is no more time for this exchange."""
        self._stop(STOPPING)

    def pause_answer(self) -> None:
        """The client takes no more of the answer for now."""
        if self._forward is not None:
            self._forward.pause_response()

    def resume_answer(self) -> None:
        """The client takes more of the answer."""
        if self._forward is not None:
            self._forward.resume_response()
