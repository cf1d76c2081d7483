"""What a request shows to prove who sends it: the credential in its fields, as it was written.

    Authorization: Bearer gw_{id}_{secret}
    X-API-Key: gw_{id}_{secret}               the name of this field is configurable
    ?api_key=gw_{id}_{secret}                 only where the configuration names such a parameter

An API key has an id, which is public, and 43 characters of a secret (256 random bits in base64url, against which a
plain hash is enough: there is nothing to guess). A bearer token of another form may be a JSON Web Token for us. On
other routes it is meant for the upstream, so both are told where both are there. Two credentials are as good
as none (RFC 6750 section 2: a client must not use more than one method), because the gateway and the upstream might
each look at another one.

Nothing is looked up or computed here, and no credential is in a `repr`.
"""

import hashlib
import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

_KEY: Final = re.compile(rb"gw_([a-z0-9]{8,32})_[A-Za-z0-9_-]{43}")


class Kind(IntEnum):
    """What was shown."""

    NOTHING = 0
    SEVERAL = 1
    """More than one credential, or one field twice."""
    MALFORMED = 2
    """Something that is no credential of the gateway."""
    KEY = 3
    """An API key by its form."""
    TOKEN = 4
    """A bearer token that is no API key."""


NOTHING: Final = Kind.NOTHING
SEVERAL: Final = Kind.SEVERAL
MALFORMED: Final = Kind.MALFORMED
KEY: Final = Kind.KEY
TOKEN: Final = Kind.TOKEN


class Presented:
    """One credential. `key_id` is the id of a key, empty for anything else. `digest` is its SHA-256, computed when it
    is asked for the first time: a client that is not listened to costs none. `token` is the bearer token that stands
    beside what is in the field for keys."""

    __slots__ = ("_digest", "key_id", "kind", "text", "token")

    def __init__(self, kind: Kind, text: bytes = b"", key_id: str = "", token: "Presented | None" = None) -> None:
        self.kind = kind
        self.key_id = key_id
        self.text = text
        self.token = token
        self._digest = b""

    def __repr__(self) -> str:
        return f"<Presented {self.kind.name} {self.key_id}>"

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the whole credential. HOT."""
        if not self._digest:
            self._digest = hashlib.sha256(self.text).digest()
        return self._digest


_NO_SCHEME: Final = (b"", b"", b"")
_NOTHING: Final = Presented(NOTHING)
_SEVERAL: Final = Presented(SEVERAL)


class CredentialReader:
    """Reads the credential of a request. `header` is the field that a key may come in, besides Authorization."""

    __slots__ = ("_fields", "_header")

    def __init__(self, header: str) -> None:
        self._header = header.lower().encode()
        name = re.escape(header.encode())
        # A field has no bare CR and no LF (`gateway.wire.message.fields`). To look for one octet alone is much faster.
        self._fields = re.compile(rb"^(authorization|%b):([^\r]*)" % name, re.IGNORECASE | re.MULTILINE)

    def read(self, lines: bytes, values: Sequence[bytes] = ()) -> Presented:
        """The credential in the end-to-end fields of a request. `values` are what its query has in the parameter for
        keys: one counts as if it were in the field for keys."""
        header: bytes | None = None
        authorization: bytes | None = None
        for name, value in self._fields.findall(lines):
            if name.lower() == self._header and self._header != b"authorization":
                if header is not None:
                    return _SEVERAL
                header = value.strip(b" \t")
            else:
                if authorization is not None:
                    return _SEVERAL
                authorization = value.strip(b" \t")
        if values:
            if header or len(values) > 1:
                return _SEVERAL
            header = values[0]
        scheme, _, rest = authorization.partition(b" ") if authorization is not None else _NO_SCHEME
        shown = rest.strip(b" ") if scheme.lower() == b"bearer" else b""
        token = Presented(TOKEN, shown) if shown and not shown.startswith(b"gw_") else None
        if header:
            return _key(header, token) if token is not None or not shown else _SEVERAL
        return token or (_key(shown, None) if shown else _NOTHING)


def _key(text: bytes, token: Presented | None) -> Presented:
    match = _KEY.fullmatch(text)
    return Presented(MALFORMED, text, "", token) if match is None else Presented(KEY, text, match[1].decode(), token)


class KeyParameter:
    """The parameter of the query that a key may come in. Its name is compared without case and percent-decoded, as some
    upstreams read it, so that no other spelling of it goes on."""

    __slots__ = ("_found",)

    def __init__(self, name: str) -> None:
        spelt = "".join([f"(?:{re.escape(each)}|%{ord(each.lower()):x}|%{ord(each.upper()):x})" for each in name])
        self._found = re.compile(rb"(?:^|&)%b(?:=([^&]*))?(?=&|\Z)" % spelt.encode(), re.IGNORECASE)

    def cut(self, target: bytes) -> tuple[bytes, list[bytes]]:
        """A request target without the parameter, and the values that it had there. The rest stays byte for byte."""
        path, _, query = target.partition(b"?")
        found = list(self._found.finditer(query))
        if not found:
            return target, []
        rest = self._found.sub(b"", query)
        if not found[0].start() and not query.startswith(b"&"):
            # What separated it from the next one.
            rest = rest[1:]
        return path + (b"?" + rest if rest else b""), [match[1] or b"" for match in found]
