"""Whether a request is what the API takes (`validate` of a route), before it may cost anything of the upstream.

    no such operation                            404, 405   `unknown_operation`
    a parameter that its schema does not take    422        `validation_failed`
    no body where there must be one              400        `body_malformed`
    a body of another media type, or encoded     415        `unsupported_media_type`
    a body that is too large to be held          413        `body_too_large`
    a body that is not of its media type         400        `body_malformed`
    a body that its schema does not take         422        `validation_failed`
    a body that takes too long to judge          503        `validation_unavailable`

Where the route only reports, each of these is counted and logged, and passes. A body is waited for only when nothing
speaks against the request's head; it is held, and whoever sends it on can send it again. What a large body costs is
spent in a process of its own (`gateway.validation.apart`), because the library cannot be interrupted.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final

from gateway.config.sections.validation.model import RouteValidation
from gateway.identity.withheld import Withheld
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.field_edits import FieldEdits
from gateway.proxy.gate import PASS, WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.ticket import Ticket
from gateway.syntax.path_template import PathRewrite, rewritten
from gateway.telemetry.log.validation_lines import ValidationLines
from gateway.validation.apart import Apart, BodyJudgement
from gateway.validation.content import Content, content_of
from gateway.validation.faults import Fault, Malformed, listed
from gateway.validation.rules import BodyCheck, Operation, Unknown

VALID: Final = "valid"
UNSEEN: Final = "unseen"
REASONS: Final = (
    "validation_failed",
    "body_malformed",
    "unsupported_media_type",
    "body_too_large",
    "unknown_operation",
    "validation_unavailable",
)
OUTCOMES: Final = (VALID, UNSEEN, *REASONS)
"""What may come of it, as metrics and the access log say. `unseen` is a body of a media type that has no schema."""

JUDGED_HERE: Final = 32_768
"""Bodies of at most so many bytes are judged at once, which takes about a millisecond. What is wrong with one of many
values is told by the process for large ones, because that can take a thousand times as long."""

_NO_BODY: Final = Refusal(400, "body_malformed", "the request has no body, and one is needed")
_UNKNOWN_PATH: Final = Refusal(404, "unknown_operation", "the API has no such path")
_ENCODED_EXTRA: Final = b"Accept-Encoding: identity\r\n"
_DETAIL: Final = "the request does not satisfy the schema of the API"


class _Awaited:
    """What a body has to satisfy that is waited for, and how another process finds the same."""

    __slots__ = ("check", "media", "path", "required")

    def __init__(self, check: BodyCheck, path: bytes, media: str, *, required: bool) -> None:
        self.check = check
        self.path = path
        self.media = media
        self.required = required


class ValidationParts:
    """What the gates of all routes share. Unless it is `strict`, all of them only report."""

    def __init__(self, lines: ValidationLines, apart: Apart, *, strict: bool = True) -> None:
        self.strict = strict
        self.lines = lines
        self.apart = apart


class Sending:
    """What becomes of a request on its way to the upstream, whose API it is that the rules describe. `prefix` is taken
    off paths that `rewrites` do not mean; `withheld` are fields that do not go on. `edits` change those that do, and
    `upstream_edits` what hooks have made of them."""

    __slots__ = ("_cut", "_edits", "_rewrites", "_upstream_edits", "_withheld", "edited")

    def __init__(
        self,
        prefix: bytes = b"",
        rewrites: tuple[PathRewrite, ...] = (),
        withheld: Withheld | None = None,
        edits: FieldEdits | None = None,
        upstream_edits: FieldEdits | None = None,
    ) -> None:
        self._cut = len(prefix)
        self._rewrites = rewrites
        self._withheld = withheld
        self._edits = edits
        self._upstream_edits = upstream_edits
        self.edited = edits is not None or upstream_edits is not None

    def target(self, target: bytes) -> bytes:
        """Path and query below the upstream's base path. HOT."""
        made = rewritten(target, self._rewrites) if self._rewrites else None
        return target[self._cut :] if made is None else made

    def lines(self, ticket: Ticket) -> bytes:
        """Field lines with what the gateway says of the caller."""
        lines = ticket.request.fields.lines
        if self._withheld is not None:
            lines = self._withheld.without(lines)
        hooked = ticket.hooked
        if self._edits is not None:
            lines = self._edits.applied(lines)
        if hooked is not None:
            lines = hooked.applied(lines)
        if self._upstream_edits is not None:
            lines = self._upstream_edits.applied(lines)
        return lines + ticket.caller_lines


class ValidationGate(Gate):
    """One for each route that validates. `counts` says how often what came of it, by `OUTCOMES`."""

    name: ClassVar[str] = "validation"

    def __init__(self, route: str, sending: Sending, config: RouteValidation, parts: ValidationParts) -> None:
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.enforce = config.enforce and parts.strict
        self._route = route
        self._sending = sending
        self._rules = config.rules
        self._file = config.file
        self._limit = config.max_body_bytes
        self._refuse_unknown = config.refuse_unknown
        self._lines = parts.lines
        self._apart = parts.apart
        too_large = f"the request body is larger than the {self._limit} bytes that are held to be validated"
        self._too_large = Refusal(413, "body_too_large", too_large)

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        request, hooked = ticket.request, ticket.hooked
        target = request.path if hooked is None else hooked.path
        path, _, query = self._sending.target(target).partition(b"?")
        path = path or b"/"
        found = self._rules.find(request.method, path)
        if isinstance(found, Unknown):
            return self._unknown(ticket, found)
        operation, values = found
        # What is not changed need not be made.
        as_sent = operation.headers or self._sending.edited or (hooked is not None and hooked.changed)
        lines = self._sending.lines(ticket) if as_sent else request.fields.lines
        faults = operation.parameter_faults(values, query, lines)
        if faults:
            return self._invalid(ticket, faults)
        body = operation.body
        if not request.has_body:
            return self._wrong(ticket, _NO_BODY) if body is not None and body.required else self._passed(VALID)
        if body is None:
            return self._passed(UNSEEN)
        content = content_of(lines)
        if content.objection or not body.takes(content):
            return self._wrong(ticket, _another_kind(content, operation))
        check = body.check(content)
        if check is None:
            return self._passed(UNSEEN)
        length = request.fields.length
        if length is not None and length > self._limit:
            return self._wrong(ticket, self._too_large)
        ticket.waiting = _Awaited(check, path, content.media, required=body.required)
        return WAIT

    def start(self, ticket: Ticket, resume: Resume) -> None:
        """Wait for the body."""
        body, awaited = ticket.body, ticket.waiting
        assert body is not None  # noqa: S101 - there is an exchange, because the request waits
        assert isinstance(awaited, _Awaited)  # noqa: S101 - `check` has put it there
        body.collect(self._limit, partial(self._collected, ticket, resume, awaited))

    def describe(self) -> dict[str, object]:
        """The file, and what becomes of what it does not take."""
        described: dict[str, object] = {
            "rules": self._rules.describe(),
            "mode": "enforce" if self.enforce else "report",
            "max_body_bytes": self._limit,
        }
        if self._rules.operations:
            described["unknown_operation"] = "refuse" if self._refuse_unknown else "pass"
        return described

    async def explain(self, question: Question) -> Step:
        """What the request is compared with. Its body is not known here."""
        figures: dict[str, object] = {**self.describe(), **self.counts}
        becomes = "refused" if self.enforce else "counted, and passes"
        detail = f"It is compared with {self._rules.describe()}; what it does not take is {becomes}."
        return step(self.name, "wait", detail, figures=figures)

    def _collected(self, ticket: Ticket, resume: Resume, awaited: "_Awaited", raw: bytes | None) -> None:
        """The body is here, or too large. HOT."""
        if raw is None:
            resume(self._wrong(ticket, self._too_large))
            return
        if not raw:
            # Only a chunked body can end without a byte. It is none, as one of length 0 is.
            resume(self._wrong(ticket, _NO_BODY) if awaited.required else self._passed(VALID))
            return
        faults: Sequence[Fault] | None = None
        if len(raw) <= JUDGED_HERE and not awaited.check.costly:
            try:
                faults = awaited.check.faults_at_once(raw)
            except Malformed as error:
                resume(self._malformed(ticket, str(error)))
                return
        if faults is None:
            done = partial(self._judged, ticket, resume)
            self._apart.judge(self._rules, ticket.request.method, awaited.path, awaited.media, raw, done)
        else:
            resume(self._invalid(ticket, faults) if faults else self._passed(VALID))

    def _judged(self, ticket: Ticket, resume: Resume, judgement: BodyJudgement) -> None:
        """The process has answered, or cannot."""
        if judgement.unavailable:
            detail = judgement.unavailable
            resume(self._wrong(ticket, Refusal(503, "validation_unavailable", detail, retry_after=1)))
        elif judgement.malformed:
            resume(self._malformed(ticket, judgement.malformed))
        else:
            resume(self._invalid(ticket, judgement.faults) if judgement.faults else self._passed(VALID))

    # What comes of it. Each returns what the request gets: a refusal, or PASS where the route only reports.

    def _passed(self, outcome: str) -> Refusal | None:
        self.counts[outcome] += 1
        return PASS

    def _unknown(self, ticket: Ticket, unknown: Unknown) -> Refusal | None:
        if not unknown.allow:
            refusal = _UNKNOWN_PATH
        else:
            allow = ", ".join(unknown.allow)
            extra = f"Allow: {allow}\r\n".encode()
            refusal = Refusal(405, "unknown_operation", f"the path takes {allow}", extra=extra)
        if self._refuse_unknown:
            return self._wrong(ticket, refusal)
        return self._passed(UNSEEN)

    def _malformed(self, ticket: Ticket, why: str) -> Refusal | None:
        return self._wrong(ticket, Refusal(400, "body_malformed", why))

    def _invalid(self, ticket: Ticket, faults: Sequence[Fault]) -> Refusal | None:
        refusal = Refusal(422, "validation_failed", _DETAIL, members=listed(faults))
        return self._wrong(ticket, refusal, [f"{each.where} {each.detail}" for each in faults])

    def _wrong(self, ticket: Ticket, refusal: Refusal, errors: Sequence[str] = ()) -> Refusal | None:
        reason = refusal.reason
        self.counts[reason] += 1
        ticket.note("validation", reason)
        request_id, enforce = ticket.request_id, self.enforce
        self._lines.failed(self._route, reason, request_id, refusal.detail, errors, refused=enforce)
        return refusal if enforce else PASS


def _another_kind(content: Content, operation: Operation) -> Refusal:
    body = operation.body
    taken = body.words if body is not None else ""
    detail = content.objection or f"the body is of another kind than the API takes: {taken}"
    extra = _ENCODED_EXTRA if content.encoded else b""
    return Refusal(415, "unsupported_media_type", detail, extra=extra)
