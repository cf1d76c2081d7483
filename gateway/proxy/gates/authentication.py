"""Who sends a request, and whether the route is for them.

    no credential                      401 `unauthenticated`
    a wrong one                        401, and it costs the address one of its attempts
    two, or one field twice            401 with `invalid_request`, likewise
    none of the attempts left          429 `too_many_attempts`, before the store is asked
    right, but the route is not theirs 403 `forbidden`
    not known here, and no store       503 `auth_unavailable`
    no keys of the issuer              503 `auth_unavailable`

A request waits only where an answer is under way: from the store about a key, or from an issuer about its keys. A token
that has expired costs no attempt: it is refused before anything is computed, and good clients send such tokens.

The challenges are those of RFC 6750 section 3. A credential that is known here and good always passes, whatever others
behind the same address did, and one that was good may always be looked up again: to recognise it costs one digest. Only
what was never good here depends on the attempts.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from gateway.config.sections.identity.model import AllowConfig, Method
from gateway.identity.credentials import KEY, NOTHING, SEVERAL, TOKEN, CredentialReader, Presented
from gateway.identity.keys import Found, KeyRing, Unavailable
from gateway.identity.tenants import Caller
from gateway.identity.tokens import FLAWS, NotNow, Pending, TokenJudgement, Tokens, Verified
from gateway.policy.attempts import Attempts
from gateway.proxy.answers.refusals import Refusal, Refusals
from gateway.proxy.gate import PASS, WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.ticket import Ticket

OUTCOMES: Final = ("allowed", "missing", "invalid", "forbidden", "limited", "unavailable")
_REALM: Final = 'Bearer realm="gateway"'
_MISSING_LOG: Final = {"authentication": "missing"}
_INVALID_LOG: Final = {"authentication": "invalid"}
_LIMITED_LOG: Final = {"authentication": "limited"}
_UNAVAILABLE_LOG: Final = {"authentication": "unavailable"}
_FLAW_LOGS: Final = {flaw: {"authentication": "invalid", "token": flaw} for flaw in FLAWS}
_SEVERAL: Final = Presented(SEVERAL)
_MISSING_WORDS: Final = {
    "api_key": "an API key ({places})",
    "jwt": "a JSON Web Token (Authorization: Bearer)",
}
_FORBIDDEN_WORDS: Final = "the caller is known, and the route is not for it"


def _challenge(error: str = "", scope: str = "", description: str = "") -> bytes:
    """A `WWW-Authenticate` line (RFC 6750 section 3). Without credentials it names no error."""
    more = f', error="{error}"' if error else ""
    more += f', error_description="{description}"' if description else ""
    more += f', scope="{scope}"' if scope else ""
    return f"WWW-Authenticate: {_REALM}{more}\r\n".encode()


def _flawed(words: str) -> Refusal:
    """The refusal of a token; `words` say what is wrong with it."""
    return Refusal(
        401,
        "unauthenticated",
        f"the token is not accepted: {words}",
        extra=_challenge("invalid_token", description=words),
    )


class AuthenticationParts:
    """What the gates of all routes share: how credentials are read, keys, tokens, and the attempts of each address."""

    def __init__(self, reader: CredentialReader, keys: KeyRing, places: str, tokens: Tokens | None = None) -> None:
        """`places` says where a key may be. `tokens` None: no route takes any."""
        self.reader = reader
        self.keys = keys
        self.places = places
        self.tokens = tokens
        self.attempts = Attempts()


class AuthenticationGate(Gate):
    """One for each route with authentication. `issuers` are those whose tokens count, all of them where it is empty.
    `counts` says how often what came of it, by `OUTCOMES`."""

    name: ClassVar[str] = "authentication"

    def __init__(
        self,
        methods: tuple[Method, ...],
        allow: AllowConfig,
        parts: AuthenticationParts,
        issuers: tuple[str, ...] = (),
    ) -> None:
        self.methods = methods
        self.allow = allow
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self._open = allow == AllowConfig()
        self._reader = parts.reader
        self._keys = parts.keys
        self._tokens = parts.tokens if "jwt" in methods else None
        self._takes_keys = "api_key" in methods
        self._issuers = frozenset(issuers or (self._tokens.issuers if self._tokens is not None else ()))
        self._attempts = parts.attempts
        wanted = " or ".join(_MISSING_WORDS[way].format(places=parts.places) for way in methods)
        missing = f"the route needs {wanted}"
        self._missing = Refusal(401, "unauthenticated", missing, extra=_challenge())
        self._invalid = Refusal(
            401, "unauthenticated", "the credential is not valid", extra=_challenge("invalid_token")
        )
        self._flawed = {flaw: _flawed(words) for flaw, words in FLAWS.items()}
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
        keys_missing = "the keys of the issuer are not there now, so the token cannot be checked"
        self._no_keys = Refusals(partial(Refusal, 503, "auth_unavailable", keys_missing))
        self._limited = Refusals(partial(Refusal, 429, "too_many_attempts", "too many failed attempts from there"))

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        presented = ticket.request.credential
        if not isinstance(presented, Presented):
            presented = ticket.request.credential = self._reader.read(ticket.request.fields.lines)
        tokens = self._tokens
        if tokens is not None:
            presented = self._meant(presented)
            if presented.kind is TOKEN:
                verified = tokens.known(presented, ticket.now)
                if verified is not None and verified.issuer in self._issuers:
                    return self._admitted(ticket, verified.caller, verified.lines)
        if presented.kind is KEY and self._takes_keys:
            caller = self._keys.known(presented, ticket.now)
            if caller is not None:
                return self._admitted(ticket, caller, caller.lines)
        return self._unknown(ticket, presented)

    def start(self, ticket: Ticket, resume: Resume) -> None:
        """Ask the store for the key, or wait for the keys of the token's issuer."""
        presented = ticket.request.credential
        assert isinstance(presented, Presented)  # noqa: S101 - `check` has put it there
        if self._tokens is None or self._meant(presented).kind is KEY:
            self._keys.look_up(presented, partial(self._answered, ticket, resume))
            return
        pending = ticket.waiting
        told = partial(self._fetched, ticket, resume)
        if not (isinstance(pending, Pending) and pending.keys.wait(told)):
            told()

    def describe(self) -> dict[str, object]:
        """The ways to prove who asks, and whom the route is for."""
        described: dict[str, object] = {"methods": ",".join(self.methods)}
        if self._issuers:
            described["issuers"] = ",".join(sorted(self._issuers))
        for name in ("tenants", "consumers", "scopes"):
            wanted: frozenset[str] = getattr(self.allow, name)
            if wanted:
                described[name] = ",".join(sorted(wanted))
        return described

    async def explain(self, question: Question) -> Step:
        """Whether the route is for the caller that is asked about. A credential is never asked for here."""
        waited = self._attempts.wait(question.client, question.now)
        figures: dict[str, Any] = {"attempts_wait": round(waited, 3)}
        without = self._keys_there(question.now, figures)
        if question.caller is None:
            detail = f"It needs one of {', '.join(self.methods)}; name a consumer to see what becomes of its requests."
            detail += "".join(f" {name} has no keys now: its tokens get 503." for name in without)
            return step(self.name, "none", detail, figures=figures)
        refusal = self._refusal_of(question.caller)
        if refusal is not None:
            return step(self.name, "refuse", f"{refusal.detail}.".capitalize(), 403, "forbidden", figures=figures)
        return step(self.name, "allow", f"The route is for {question.caller.consumer}.", figures=figures)

    def _keys_there(self, now: float, figures: dict[str, Any]) -> list[str]:
        """Adds how many keys each issuer has. Returns those without any."""
        counts: dict[str, int] = {}
        for name, issuer in () if self._tokens is None else self._tokens.issuers.items():
            if name in self._issuers:
                usable = issuer.keys.usable(now)
                counts[name] = 0 if usable is None else len(usable.keys)
        figures.update({f"{name}: keys": count for name, count in counts.items()})
        return [name for name, count in counts.items() if not count]

    def _admitted(self, ticket: Ticket, caller: Caller, lines: bytes) -> Refusal | None:
        """The credential is good; `lines` tell the upstream so. HOT."""
        ticket.log_decisions = caller.log
        if not self._open:
            refusal = self._refusal_of(caller)
            if refusal is not None:
                self.counts["forbidden"] += 1
                return refusal
        ticket.caller = caller
        ticket.caller_lines = lines
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
        if wait > 0.0 and not (kind is KEY and self._keys.recognises(presented)):
            ticket.log_decisions = _LIMITED_LOG
            self.counts["limited"] += 1
            return self._limited.after(wait)
        if kind is SEVERAL:
            return self._failed(ticket, self._several)
        if kind is TOKEN and self._tokens is not None:
            return self._judged(ticket, self._tokens.check(presented, self._issuers))
        if kind is not KEY or not self._takes_keys:
            return self._failed(ticket, self._invalid)
        if not self._keys.available:
            return self._not_now(ticket)
        if self._keys.asks:
            return WAIT
        return self._failed(ticket, self._invalid)

    def _answered(self, ticket: Ticket, resume: Callable[[Refusal | None], None], found: Found) -> None:
        if isinstance(found, Caller):
            resume(self._admitted(ticket, found, found.lines))
        elif isinstance(found, Unavailable):
            resume(self._not_now(ticket))
        else:
            resume(self._failed(ticket, self._invalid))

    def _meant(self, presented: Presented) -> Presented:
        """Which credential counts on a route that takes tokens: of two, none. HOT."""
        if presented.token is None:
            return presented
        return _SEVERAL if self._takes_keys else presented.token

    def _judged(self, ticket: Ticket, judgement: TokenJudgement) -> Verdict:
        if isinstance(judgement, Pending):
            ticket.waiting = judgement
            return WAIT
        return self._settled(ticket, judgement)

    def _fetched(self, ticket: Ticket, resume: Resume) -> None:
        """The keys that the request has waited for are there, or they could not be had."""
        presented = ticket.request.credential
        tokens = self._tokens
        assert isinstance(presented, Presented)  # noqa: S101 - `check` has put it there
        assert tokens is not None  # noqa: S101 - it waits for tokens alone
        ticket.waiting = None
        judgement = tokens.check(self._meant(presented), self._issuers, waited=True)
        assert not isinstance(judgement, Pending)  # noqa: S101 - it has waited
        resume(self._settled(ticket, judgement))

    def _settled(self, ticket: Ticket, judgement: Verified | NotNow | str) -> Refusal | None:
        if isinstance(judgement, Verified):
            return self._admitted(ticket, judgement.caller, judgement.lines)
        if isinstance(judgement, NotNow):
            self._not_now(ticket)
            return self._no_keys.after(judgement.retry_after)
        if judgement == "expired":
            ticket.log_decisions = _FLAW_LOGS[judgement]
            self.counts["invalid"] += 1
            return self._flawed[judgement]
        refusal = self._failed(ticket, self._flawed[judgement])
        ticket.log_decisions = _FLAW_LOGS[judgement]
        return refusal

    def _not_now(self, ticket: Ticket) -> Refusal:
        ticket.log_decisions = _UNAVAILABLE_LOG
        self.counts["unavailable"] += 1
        return self._unavailable

    def _failed(self, ticket: Ticket, refusal: Refusal) -> Refusal:
        self._attempts.failed(ticket.client, ticket.now)
        ticket.log_decisions = _INVALID_LOG
        self.counts["invalid"] += 1
        return refusal
