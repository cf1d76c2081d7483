"""Hooks that the tests of hooks use; written as somebody would write them who knows gateway.hooks alone."""

import sys
import time

from gateway.hooks import Refusal, RequestChanges, RequestHead, ResponseChanges, ResponseHead


class Shows:
    """Tells the upstream what it was shown, and the client what the upstream has said."""

    def on_request(self, head: RequestHead) -> RequestChanges:
        shown = (head.method, head.path, head.query, head.host, head.scheme, head.client, head.route)
        callers = (head.consumer, head.tenant, head.tier, ",".join(sorted(head.scopes)))
        return RequestChanges(
            set={"X-Shown": "|".join(shown), "X-Caller": "|".join(callers) or "-"},
            append={"X-Names": ",".join(["-", *sorted(name.lower() for name, _ in head.fields)])},
        )

    def on_response(self, head: ResponseHead) -> ResponseChanges:
        shown = (str(head.status), head.upstream, head.request.path, head.request.fields.get("X-Shown", "-"))
        return ResponseChanges(set={"X-Answer": "|".join(shown)}, remove=["X-Inside"])


class Does:
    """What the field X-Do of the request says, and X-Do-Later to its answer."""

    def on_request(self, head: RequestHead) -> object:
        return act(head.fields.get("X-Do"))

    def on_response(self, head: ResponseHead) -> object:
        return act(head.request.fields.get("X-Do-Later"))


def act(what: str) -> object:
    word, _, rest = what.partition(" ")
    match word:
        case "raise":
            raise KeyError(rest)
        case "exit":
            sys.exit(rest)
        case "return":
            return rest
        case "sleep":
            time.sleep(float(rest))
        case "refuse":
            return Refusal(int(rest), "as you wish", code="wished", retry_after=7, fields={"X-Wish": "granted"})
        case "set":
            name, _, value = rest.partition("=")
            return RequestChanges(set={name: value.replace("\\r\\n", "\r\n")})
        case "answer":
            name, _, value = rest.partition("=")
            return ResponseChanges(append={name: value})
        case "path":
            return RequestChanges(path=rest)
        case "query":
            return RequestChanges(query=rest)
    return None


class Counts:
    """Answers tell how often each of the two was called in this process."""

    def __init__(self) -> None:
        self.requests = 0
        self.answers = 0

    def on_request(self, head: RequestHead) -> None:
        self.requests += 1

    def on_response(self, head: ResponseHead) -> ResponseChanges:
        self.answers += 1
        return ResponseChanges(set={"X-Counts": f"{self.requests} {self.answers}"})


does = Does()
