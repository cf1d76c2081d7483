"""One attempt of a step: the request that is made of its templates, and what its answer means.

2xx (`success`)                                       DONE
4xx but 408, 409, 425 and 429 (`failed`)              FAILED
408, 409, 425, 429; no byte was sent                  REFUSED
circuit, bulkhead, the gateway stops                  HELD_BACK
any other answer, or none                             UNCERTAIN

A FAILED is `final` where an upstream that honours keys repeats it for as long as it knows the key. It is not where no
request could be made, nor where the upstream says so before it looks at the key (`_AHEAD_OF_THE_KEY`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from gateway.proxy.errands.errand import Answered, Outcomes
from gateway.proxy.errands.own_requests import OwnRequest, OwnRequests, origin_of
from gateway.proxy.requests.dots import has_dot_segment
from gateway.saga.machine import Outcome
from gateway.saga.rendering import rendered
from gateway.saga.templates import TemplateError
from gateway.saga.workflow import SagaRequest, within
from gateway.saga_runner.job import Job, Report
from gateway.wire.message.request import RequestError

# The upstream has turned the request away before it acted on it (RFC 9110, RFC 8470, RFC 6585).
_TURNED_AWAY: Final = frozenset({408, 409, 425, 429})
# Who is asking, where to, and in what form is judged before a key is looked at (RFC 9110, RFC 6585).
_AHEAD_OF_THE_KEY: Final = frozenset({401, 403, 404, 405, 407, 411, 413, 414, 415, 417, 421, 426, 431})
# Where nothing says for how long an upstream is held back, or it is not in the configuration.
_HELD_BACK: Final = 1.0
_NOT_CONFIGURED: Final = 15.0


async def attempted(job: Job, requests: OwnRequests, renew: Callable[[], Awaitable[None]], interval: float) -> Report:
    """Send what the run has to send now. Meanwhile `renew` is called every `interval` seconds; whatever it raises ends
    the attempt, and is raised."""
    request = job.request
    if request.upstream not in requests.upstreams:
        detail = f"upstream {request.upstream} is not in the configuration"
        return Report(Outcome.HELD_BACK, 0, detail, retry_after=_NOT_CONFIGURED)
    try:
        own = _made(job, request)
    except (TemplateError, RequestError) as error:
        return _impossible(str(error))
    sending = asyncio.get_running_loop().create_task(requests.send(request.upstream, own))
    try:
        while not sending.done():
            await asyncio.wait({sending}, timeout=interval)
            if not sending.done():
                await renew()
    finally:
        sending.cancel()
    try:
        return _report(request, sending.result(), own.keep)
    except RequestError as error:
        return _impossible(error.detail)


def _made(job: Job, request: SagaRequest) -> OwnRequest:
    made = rendered(request, job.document)
    if has_dot_segment(made.target):
        raise TemplateError("its path has a dot segment")
    origin, headers = origin_of(job.headers)
    lines = b'%b%bIdempotency-Key: "%b"\r\n' % (made.lines, headers, job.key.encode())
    keep = 0 if job.undoes else job.workflow.max_result_bytes
    correlation_id = job.correlation_id.encode("latin-1")
    return OwnRequest(request.method, made.target, lines, made.body, correlation_id, request.timeout, keep, origin)


def _impossible(why: str) -> Report:
    return Report(Outcome.FAILED, 0, f"no request can be made of it: {why}", hopeless=True, final=False)


def _report(request: SagaRequest, outcome: Outcomes, most: int) -> Report:
    if not isinstance(outcome, Answered):
        detail = f"{outcome.reason}: {outcome.detail}"
        if outcome.held_back:
            return Report(Outcome.HELD_BACK, 0, detail, retry_after=outcome.retry_after or _HELD_BACK)
        what = Outcome.UNCERTAIN if outcome.sent else Outcome.REFUSED
        return Report(what, 0, detail, retry_after=outcome.retry_after)
    status, detail = outcome.status, f"answered {outcome.status}"
    if within(status, request.success):
        if not outcome.whole:
            return Report(
                Outcome.DONE, status, f"its answer has more than {most} bytes and is not kept" if most else ""
            )
        return Report(Outcome.DONE, status, result=_json(outcome.body))
    if within(status, request.failed):
        return Report(Outcome.FAILED, status, detail, final=status not in _AHEAD_OF_THE_KEY)
    what = Outcome.REFUSED if status in _TURNED_AWAY else Outcome.UNCERTAIN
    return Report(what, status, detail, retry_after=outcome.retry_after)


def _json(body: bytes) -> bytes | None:
    """The answer where it is JSON."""
    try:
        orjson.loads(body)
    except ValueError:
        return None
    return body
