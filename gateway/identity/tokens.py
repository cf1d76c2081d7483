"""Whose token it is: what an issuer has signed is checked once, and remembered for a while.

    known(token)   the caller, if this very token was checked a short while ago; most requests end here
    check(token)   reads and checks it, with cryptography only where everything else about it is right

The order follows RFC 8725: form and length, the issuer, the algorithm (one of the issuer's, which is bound to a type of
key), `typ` where that is configured, the times, the audience, then the signature, then the claims that it must have,
and who it says is asking. A token
that is expired is refused before its signature is looked at, and that is no attempt at anything: good clients come with
expired tokens, and it costs no cryptography.

What was checked is kept by the SHA-256 of the token, for `FRESH` seconds and never beyond its expiry. It is forgotten
when a key of an issuer is gone, and when the directory lets callers go. Several routes share all of it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

from gateway.config.sections.issuers.model import IssuerConfig
from gateway.identity.claims import (
    Times,
    UnusableClaimError,
    field_lines,
    has_one_of,
    name_of,
    scopes_of,
    text_of,
    times_of,
)
from gateway.identity.credentials import Presented
from gateway.identity.issuer_keys import IssuerKeys
from gateway.identity.tenants import Caller, Directory
from gateway.jose import compact
from gateway.jose.compact import Token

FRESH: Final = 60.0
"""Seconds for which a token is not checked again."""
_MOST_KNOWN: Final = 20_000

FLAWS: Final = {
    compact.MALFORMED: "it is no signed JWT in compact form",
    compact.ENCRYPTED: "encrypted and nested tokens are not taken",
    compact.CRITICAL: "it has a critical extension, and none is known",
    "too_long": "it is longer than tokens may be",
    "issuer": "the route takes no tokens of this issuer",
    "algorithm": "its algorithm is not one that the issuer is configured with",
    "type": "its type is not the one that the issuer is configured with",
    "times": "exp, nbf or iat is missing or is no time",
    "expired": "it has expired",
    "not_yet": "it is not valid yet",
    "audience": "it is for another audience",
    "key": "the key that has signed it is not known",
    "signature": "the signature does not match",
    "required_claims": "a claim that it must have is missing, or has another value",
    "claims": "a claim that says who asks is missing, or has no value that can be used",
}
"""Why a token is refused, as words for metrics and logs, and as sentences for clients: they never quote the token."""

VERIFIED: Final = "verified"
_NO_ISSUER: Final = ""


class Verified:
    """A token that was checked: `caller` sends it, `lines` are the header lines for the upstream. It is not checked
    again until the instant `until` of the monotonic clock, nor is it good from `expires` on, of the wall clock."""

    __slots__ = ("caller", "expires", "issuer", "lines", "until")

    def __init__(self, caller: Caller, lines: bytes, issuer: str, until: float, expires: float) -> None:
        self.caller = caller
        self.lines = lines
        self.issuer = issuer
        self.until = until
        self.expires = expires

    def __repr__(self) -> str:
        return f"<Verified {self.caller!r} by {self.issuer}>"


class NotNow:
    """The keys are not there, and nothing is under way that brings them; it is worth coming back in `retry_after`
    seconds."""

    __slots__ = ("retry_after",)

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after


class Pending:
    """The keys are being fetched: `keys` tells when that is over."""

    __slots__ = ("keys",)

    def __init__(self, keys: IssuerKeys) -> None:
        self.keys = keys


TokenJudgement = Verified | NotNow | Pending | str
"""What came of a check; a text is one of `FLAWS`."""


class Issuer:
    """Whom the gateway believes, with its keys. `outcomes` counts what came of its tokens when they were checked: one
    of `FLAWS`, or `VERIFIED`."""

    __slots__ = ("audience", "config", "keys", "kind", "outcomes")

    def __init__(self, config: IssuerConfig, keys: IssuerKeys) -> None:
        self.config = config
        self.keys = keys
        self.kind = compact.kind_of(config.typ or "")
        self.audience = frozenset(config.audience)
        self.outcomes = dict.fromkeys((VERIFIED, *FLAWS), 0)


class Tokens:
    """`issuers` by what their tokens have as `iss`. `scopes` are those that some route asks for: others mean nothing
    here. Made and used on one event loop."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        directory: Directory,
        scopes: frozenset[str],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        most: int = _MOST_KNOWN,
    ) -> None:
        self.issuers = {each.config.name: each for each in issuers}
        self.strangers = dict.fromkeys(FLAWS, 0)
        """What came of tokens of which it is not known whose they are."""
        self._by_iss = {each.config.issuer: each for each in self.issuers.values()}
        self._longest = max((each.config.max_token_bytes for each in self.issuers.values()), default=0)
        self._directory = directory
        self._scopes = scopes
        self._clock = clock
        self._wall = wall
        self._most = most
        self._known: OrderedDict[bytes, Verified] = OrderedDict()
        for each in self.issuers.values():
            each.keys.on_removed = self.forget
        directory.on_forgotten.append(self.forget)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<Tokens of {len(self.issuers)} issuers, {len(self._known)} known>"

    def known(self, presented: Presented, now: float) -> Verified | None:
        """The token as it was checked, if that is not too long ago; None says nothing yet. HOT."""
        if len(presented.text) > self._longest:
            return None
        found = self._known.get(presented.digest)
        if found is None:
            return None
        if now >= found.until or self._wall() >= found.expires:
            del self._known[presented.digest]
            return None
        self._known.move_to_end(presented.digest)
        return found

    def forget(self) -> None:
        """Check every token again before it counts."""
        self._known.clear()

    def check(self, presented: Presented, accepted: frozenset[str], *, waited: bool = False) -> TokenJudgement:
        """Judge a token for a route that takes those of the issuers `accepted`. With `waited` it is not `Pending`
        again."""
        text = presented.text
        if len(text) > self._longest:
            return self._stranger("too_long")
        token = compact.parse(text)
        if isinstance(token, str):
            return self._stranger(token)
        iss = token.claims.get("iss")
        issuer = self._by_iss.get(iss) if isinstance(iss, str) else None
        if issuer is None or issuer.config.name not in accepted:
            return self._stranger("issuer")
        judgement = self._judged(presented, issuer, token, waited=waited)
        if isinstance(judgement, str):
            issuer.outcomes[judgement] += 1
        elif isinstance(judgement, Verified):
            issuer.outcomes[VERIFIED] += 1
        return judgement

    def _judged(self, presented: Presented, issuer: Issuer, token: Token, *, waited: bool) -> TokenJudgement:
        config = issuer.config
        if len(presented.text) > config.max_token_bytes:
            return "too_long"
        if token.algorithm not in config.algorithms:
            return "algorithm"
        if issuer.kind and compact.kind_of(token.type) != issuer.kind:
            return "type"
        times = times_of(token.claims)
        if times is None:
            return "times"
        wall = self._wall()
        flaw = _untimely(times, wall, config.skew)
        if flaw:
            return flaw
        if not _is_for(token.claims, issuer.audience):
            return "audience"
        flaw_of_key = self._signed(issuer, token, waited=waited)
        if flaw_of_key is not None:
            return flaw_of_key
        for claim, values in config.required_claims:
            if not has_one_of(token.claims, claim, values):
                return "required_claims"
        try:
            found = self._verified(issuer, token, times.expires + config.skew)
        except UnusableClaimError:
            return "claims"
        self._known[presented.digest] = found
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return found

    def _signed(self, issuer: Issuer, token: Token, *, waited: bool) -> NotNow | Pending | str | None:
        """None when a key of the issuer has signed the token."""
        keys, now = issuer.keys, self._clock()
        usable = keys.usable(now)
        if usable is None:
            return Pending(keys) if keys.fetching and not waited else NotNow(keys.retry_after(now))
        candidates = usable.candidates(token.kid, token.algorithm)
        if not candidates:
            if not waited and keys.wanted(now):
                return Pending(keys)
            # Until the issuer has answered, nobody knows whether that is a key of it.
            return NotNow(keys.retry_after(now)) if keys.fetching or keys.problem is not None else "key"
        for verify in candidates:
            if verify(token.signed, token.signature):
                return None
        # The issuer may have a new key of which no `kid` tells: it is optional (RFC 7515 section 4.1.4), and a new key
        # may have the name of the one before. The signature tells.
        return Pending(keys) if not waited and keys.wanted(now) else "signature"

    def _verified(self, issuer: Issuer, token: Token, expires: float) -> Verified:
        config, claims = issuer.config, token.claims
        consumer = config.consumer_prefix + text_of(claims, config.consumer)
        tenant = config.tenant or (name_of(claims, config.tenant_claim) if config.tenant_claim else "")
        caller = self._directory.caller(consumer, tenant, scopes_of(claims, config.scopes) & self._scopes)
        lines = caller.lines + field_lines(claims, config.fields)
        return Verified(caller, lines, config.name, self._clock() + FRESH, expires)

    def _stranger(self, flaw: str) -> str:
        self.strangers[flaw] += 1
        return flaw


def _untimely(times: Times, wall: float, skew: float) -> str:
    if wall >= times.expires + skew:
        return "expired"
    return "not_yet" if times.begins > wall + skew else ""


def _is_for(claims: dict[str, Any], audience: frozenset[str]) -> bool:
    """RFC 7519 section 4.1.3: `aud` is one text or a list of them. Without an audience of ours, a token that has one is
    for somebody else."""
    if not audience:
        return "aud" not in claims
    given = claims.get("aud")
    if isinstance(given, str):
        return given in audience
    several = given if isinstance(given, list) else []
    return any(isinstance(each, str) and each in audience for each in several)
