"""What a hook has returned, as the gateway takes it: checked, so that nothing malformed can come of it.

A hook may not change what frames a message, says who asks or where a request comes from, or is made by the gateway
(`gateway.syntax.owned_fields`), and no field of a WebSocket handshake.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal

from gateway.config.sections.headers.model import FieldChanges
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.field_edits import FieldEdits
from gateway.proxy.requests.dots import has_dot_segment
from gateway.syntax.owned_fields import NAME, VALUE, owned, plain

# As of a request line (gateway.wire.message.request), in ASCII.
_PATH: Final = re.compile(r"/[\x21\x22\x24-\x3e\x40-\x7e]{0,8191}")
_QUERY: Final = re.compile(r"[\x21\x22\x24-\x7e]{0,8192}")
_CODE: Final = re.compile(r"[A-Za-z0-9._-]{0,64}", re.ASCII)
_MOST_FIELDS: Final = 64
_MOST_BYTES: Final = 32_768
_LONGEST_DETAIL: Final = 1000
_LONGEST_NAME: Final = 64
_HANDSHAKE: Final = "sec-websocket-"
_NO_DETAIL: Final = "a hook of the route has refused the request"

Side = Literal["request", "answer"]


class ChangeError(Exception):
    """The hook has returned something that cannot be done. The message has no value of a field."""


class RouteRules:
    """What hooks of one route have to heed. `taken` are the fields that are made from claims of tokens."""

    __slots__ = ("dots", "prefix", "taken")

    def __init__(self, prefix: str, taken: Iterable[str] = (), *, dots: bool = False) -> None:
        self.prefix = prefix
        self.taken = frozenset([plain(name) for name in taken])
        self.dots = dots


def request_edits(changes: Any, rules: RouteRules) -> FieldEdits | None:
    """The changes of fields that a `RequestChanges` asks for, None without any. Raises `ChangeError`."""
    return _edits(changes.set, changes.append, changes.remove, "request", rules)


def response_edits(changes: Any, rules: RouteRules) -> FieldEdits | None:
    """Likewise of a `ResponseChanges`."""
    return _edits(changes.set, changes.append, changes.remove, "answer", rules)


def changed_path(changes: Any, now: bytes, rules: RouteRules) -> bytes | None:
    """Path and query in place of those `now`, None where they stay. Raises `ChangeError`."""
    path, query = changes.path, changes.query
    if path is None and query is None:
        return None
    old_path, _, old_query = now.partition(b"?")
    if path is not None and (not isinstance(path, str) or _PATH.fullmatch(path) is None):
        raise ChangeError("the path does not begin with a slash, or has a character that no path has")
    if query is not None and (not isinstance(query, str) or _QUERY.fullmatch(query) is None):
        raise ChangeError("the query has a character that no query has")
    new_path = old_path if path is None else path.encode()
    new_query = old_query if query is None else query.encode()
    if path is not None:
        below = rules.prefix if rules.prefix.endswith("/") else f"{rules.prefix}/"
        if path != rules.prefix and not path.startswith(below):
            raise ChangeError(f"the path is not one of the route, which takes {rules.prefix}")
        if not rules.dots and has_dot_segment(new_path):
            raise ChangeError("the path has a dot segment, and the route takes none")
    return new_path + b"?" + new_query if new_query else new_path


def refusal_of(asked: Any) -> Refusal:
    """What the client gets where a hook has returned a `gateway.hooks.Refusal`. Raises `ChangeError`."""
    status, detail, code, retry_after = asked.status, asked.detail, asked.code, asked.retry_after
    if not _is_whole(status) or not 400 <= status <= 599:
        raise ChangeError("the status of a refusal is from 400 to 599")
    if not isinstance(detail, str) or len(detail) > _LONGEST_DETAIL:
        raise ChangeError(f"the detail of a refusal is text of at most {_LONGEST_DETAIL} characters")
    if not isinstance(code, str) or _CODE.fullmatch(code) is None:
        raise ChangeError("the code of a refusal is up to 64 letters, digits, '.', '_' or '-'")
    if retry_after is not None and (not _is_whole(retry_after) or not 1 <= retry_after <= 86_400):
        raise ChangeError("retry_after is a whole number of seconds from 1 to 86400")
    fields = _pairs(asked.fields, "answer", frozenset())
    return _refusal(status, detail or _NO_DETAIL, code, retry_after, fields)


@lru_cache(maxsize=256)
def _refusal(
    status: int, detail: str, code: str, retry_after: int | None, fields: tuple[tuple[str, str], ...]
) -> Refusal:
    """The same few come all the time, and what is made once of a refusal stays with it."""
    extra = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
    # A surrogate of its own can be in a text, and in no JSON.
    detail = detail.encode("utf-8", "replace").decode()
    members = {"code": code} if code else None
    return Refusal(status, "hook_refused", detail, retry_after, extra=extra, members=members)


def _edits(wanted: object, added: object, removed: Any, side: Side, rules: RouteRules) -> FieldEdits | None:
    to_set = _pairs(wanted, side, rules.taken)
    to_append = _pairs(added, side, rules.taken)
    if isinstance(removed, str):
        raise ChangeError("remove is a list of names, and not one text")
    to_remove = tuple([_name(name, side, rules.taken) for name in removed])
    if not to_set and not to_append and not to_remove:
        return None
    if len(to_remove) > _MOST_FIELDS:
        raise ChangeError(f"more than {_MOST_FIELDS} fields are removed")
    return FieldEdits(FieldChanges(to_remove, to_set, to_append))


def _pairs(fields: object, side: Side, taken: frozenset[str]) -> tuple[tuple[str, str], ...]:
    if not isinstance(fields, Mapping):
        raise ChangeError("fields are a mapping from names to values")
    pairs = []
    for name, value in fields.items():
        _name(name, side, taken)
        if not isinstance(value, str) or VALUE.fullmatch(value) is None:
            raise ChangeError(
                f"the value of {name} is not 1 to 8192 visible ASCII characters, with blanks between them"
            )
        pairs.append((name, value))
    if len(pairs) > _MOST_FIELDS or sum([len(name) + len(value) for name, value in pairs]) > _MOST_BYTES:
        raise ChangeError(f"more than {_MOST_FIELDS} fields, or {_MOST_BYTES} bytes of them")
    return tuple(pairs)


def _name(name: object, side: Side, taken: frozenset[str]) -> str:
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise ChangeError("the name of a field is text, and not too long")
    wrong = _objection(name, side)
    if wrong or plain(name) in taken:
        raise ChangeError(wrong or f"{name} is made from the claims of tokens")
    return name


@lru_cache(maxsize=1024)
def _objection(name: str, side: Side) -> str:
    """What speaks against a hook changing this field; empty for nothing."""
    if NAME.fullmatch(name) is None:
        return "the name of a field is not one"
    if owned(name, side) or plain(name).startswith(_HANDSHAKE):
        return f"{name} is read or set by the gateway itself"
    return ""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
