"""Who sends a request, and whether the route is for them.

    no credential                      401 `unauthenticated`
    a wrong one                        401, and it costs the address one of its attempts
    two, or one field twice            401 with `invalid_request`, likewise
    none of the attempts left          429 `too_many_attempts`, before anything is computed or looked up
    right, but the route is not theirs 403 `forbidden`
    not known here, and no store       503 `auth_unavailable`

The challenges are those of RFC 6750 section 3. A credential that is known here and good always passes, whatever others
behind the same address did: to recognise it costs a look into a table. Only what would have to be computed or looked up
depends on the attempts.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

from gateway.config.identity_model import AllowConfig, Method
from gateway.identity.credentials import KEY, MALFORMED, NOTHING, SEVERAL, CredentialReader, Presented
from gateway.identity.keys import Found, KeyRing, Unavailable
from gateway.identity.tenants import Caller
from gateway.policy.attempts import Attempts
from gateway.proxy.gates import PASS, WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.refusals import Refusal, Refusals
from gateway.proxy.ticket import Ticket

OUTCOMES: Final = ("allowed", "missing", "invalid", "forbidden", "limited", "unavailable")
_REALM: Final = 'Bearer realm="gateway"'
_MISSING_LOG: Final = {"authentication": "missing"}
_INVALID_LOG: Final = {"authentication": "invalid"}
_LIMITED_LOG: Final = {"authentication": "limited"}
_UNAVAILABLE_LOG: Final = {"authentication": "unavailable"}
_MISSING_WORDS: Final = "the route needs an API key, in Authorization: Bearer or in {header}"
_FORBIDDEN_WORDS: Final = "the caller is known, and the route is not for it"


def _challenge(error: str = "", scope: str = "") -> bytes:
    """A `WWW-Authenticate` line (RFC 6750 section 3). Without credentials it names no error."""
    more = f', error="{error}"' if error else ""
    more += f', scope="{scope}"' if scope else ""
    return f"WWW-Authenticate: {_REALM}{more}\r\n".encode()


class AuthenticationParts:
    """What the gates of all routes share: how credentials are read, the keys, and the attempts of each address."""

    def __init__(self, reader: CredentialReader, keys: KeyRing, header: str) -> None:
        self.reader = reader
        self.keys = keys
        self.header = header
        self.attempts = Attempts()


class AuthenticationGate(Gate):
    """One for each route with authentication. `counts` says how often what came of it, by `OUTCOMES`."""

    name: ClassVar[str] = "authentication"

    def __init__(self, methods: tuple[Method, ...], allow: AllowConfig, parts: AuthenticationParts) -> None:
        self.methods = methods
        self.allow = allow
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self._open = allow == AllowConfig()
        self._reader = parts.reader
        self._keys = parts.keys
        self._attempts = parts.attempts
        missing = _MISSING_WORDS.format(header=parts.header)
        self._missing = Refusal(401, "unauthenticated", missing, extra=_challenge())
        self._invalid = Refusal(
            401, "unauthenticated", "the credential is not valid", extra=_challenge("invalid_token")
        )
        self._several = Refusal(
            401,
            "unauthenticated",
            "the request has more than one credential; which one counts must not be a matter of opinion",
            extra=_challenge("invalid_request"),
        )
        self._forbidden = Refusal(403, "forbidden", _FORBIDDEN_WORDS)
        scope = " ".join(sorted(allow.scopes))
        lacking = f"the caller lacks a scope that the route needs: {scope}"
        self._lacking = Refusal(403, "forbidden", lacking, extra=_challenge("insufficient_scope", scope))
        self._unavailable = Refusal(503, "auth_unavailable", "credentials cannot be checked now", retry_after=1)
        self._limited = Refusals(partial(Refusal, 429, "too_many_attempts", "too many failed attempts from there"))

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        presented = ticket.request.credential
        if not isinstance(presented, Presented):
            presented = ticket.request.credential = self._reader.read(ticket.request.fields.lines)
        if presented.kind is KEY:
            caller = self._keys.known(presented, ticket.now)
            if caller is not None:
                return self._admitted(ticket, caller)
        return self._unknown(ticket, presented)

    def start(self, ticket: Ticket, resume: Resume) -> None:
        """Ask the store for the key."""
        presented = ticket.request.credential
        assert isinstance(presented, Presented)  # noqa: S101 - `check` has put it there
        self._keys.look_up(presented, partial(self._answered, ticket, resume))

    def describe(self) -> dict[str, object]:
        """The ways to prove who asks, and whom the route is for."""
        described: dict[str, object] = {"methods": ",".join(self.methods)}
        for name in ("tenants", "consumers", "scopes"):
            wanted: frozenset[str] = getattr(self.allow, name)
            if wanted:
                described[name] = ",".join(sorted(wanted))
        return described

    async def explain(self, question: Question) -> Step:
        """Whether the route is for the caller that is asked about. A credential is never asked for here."""
        waited = self._attempts.wait(question.client, question.now)
        figures = {"attempts_wait": round(waited, 3)}
        if question.caller is None:
            detail = f"It needs one of {', '.join(self.methods)}; name a consumer to see what becomes of its requests."
            return step(self.name, "none", detail, figures=figures)
        refusal = self._refusal_of(question.caller)
        if refusal is not None:
            return step(self.name, "refuse", f"{refusal.detail}.".capitalize(), 403, "forbidden", figures=figures)
        return step(self.name, "allow", f"The route is for {question.caller.consumer}.", figures=figures)

    def _admitted(self, ticket: Ticket, caller: Caller) -> Verdict:
        """The credential is good. HOT."""
        ticket.log_decisions = caller.log
        if not self._open:
            refusal = self._refusal_of(caller)
            if refusal is not None:
                self.counts["forbidden"] += 1
                return refusal
        ticket.caller = caller
        self.counts["allowed"] += 1
        return PASS

    def _refusal_of(self, caller: Caller) -> Refusal | None:
        allow = self.allow
        if (allow.tenants and caller.tenant not in allow.tenants) or (
            allow.consumers and caller.consumer not in allow.consumers
        ):
            return self._forbidden
        return self._lacking if not allow.scopes <= caller.scopes else None

    def _unknown(self, ticket: Ticket, presented: Presented) -> Verdict:
        """The credential is not known here, or it is none."""
        kind = presented.kind
        if kind is NOTHING:
            ticket.log_decisions = _MISSING_LOG
            self.counts["missing"] += 1
            return self._missing
        wait = self._attempts.wait(ticket.client, ticket.now)
        if wait > 0.0:
            ticket.log_decisions = _LIMITED_LOG
            self.counts["limited"] += 1
            return self._limited.after(wait)
        if kind is SEVERAL or kind is MALFORMED:
            return self._failed(ticket, self._several if kind is SEVERAL else self._invalid)
        if not self._keys.available:
            return self._not_now(ticket)
        if self._keys.asks:
            return WAIT
        return self._failed(ticket, self._invalid)

    def _answered(self, ticket: Ticket, resume: Callable[[Refusal | None], None], found: Found) -> None:
        if isinstance(found, Caller):
            verdict = self._admitted(ticket, found)
            assert verdict is None or isinstance(verdict, Refusal)  # noqa: S101 - it does not wait again
            resume(verdict)
        elif isinstance(found, Unavailable):
            resume(self._not_now(ticket))
        else:
            resume(self._failed(ticket, self._invalid))

    def _not_now(self, ticket: Ticket) -> Refusal:
        ticket.log_decisions = _UNAVAILABLE_LOG
        self.counts["unavailable"] += 1
        return self._unavailable

    def _failed(self, ticket: Ticket, refusal: Refusal) -> Refusal:
        self._attempts.failed(ticket.client, ticket.now)
        ticket.log_decisions = _INVALID_LOG
        self.counts["invalid"] += 1
        return refusal
