"""What a request shows to prove who sends it: the credential in its fields, as it was written.

    Authorization: Bearer gw_{id}_{secret}
    X-API-Key: gw_{id}_{secret}               the name of this field is configurable

An API key has an id, which is public, and 43 characters of a secret (256 random bits in base64url, against which a
plain hash is enough: there is nothing to guess). A bearer token of another form is not one of ours: it may be meant for
the upstream, so it counts only where no key is beside it. Two credentials are as good as none (RFC 6750 section 2: a
client must not use more than one method), because the gateway and the upstream might each look at another one.

Nothing is looked up or computed here, and no credential is in a `repr`.
"""

import hashlib
import re
from enum import IntEnum
from typing import Final

_KEY: Final = re.compile(rb"gw_([a-z0-9]{8,32})_[A-Za-z0-9_-]{43}")
_BEARER: Final = re.compile(rb"bearer(?: +(.*))?", re.IGNORECASE)


class Kind(IntEnum):
    """What was shown."""

    NOTHING = 0
    SEVERAL = 1
    """More than one credential, or one field twice."""
    MALFORMED = 2
    """Something that is no credential of the gateway."""
    KEY = 3
    """An API key by its form."""


NOTHING: Final = Kind.NOTHING
SEVERAL: Final = Kind.SEVERAL
MALFORMED: Final = Kind.MALFORMED
KEY: Final = Kind.KEY


class Presented:
    """One credential. `key_id` is the id of a key, empty for anything else. `digest` is its SHA-256, computed when it
    is asked for the first time: a client that is not listened to costs none."""

    __slots__ = ("_digest", "_written", "key_id", "kind")

    def __init__(self, kind: Kind, written: bytes = b"", key_id: str = "") -> None:
        self.kind = kind
        self.key_id = key_id
        self._written = written
        self._digest = b""

    def __repr__(self) -> str:
        return f"<Presented {self.kind.name} {self.key_id}>"

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the whole credential. HOT."""
        if not self._digest:
            self._digest = hashlib.sha256(self._written).digest()
        return self._digest


_NOTHING: Final = Presented(NOTHING)
_SEVERAL: Final = Presented(SEVERAL)


class CredentialReader:
    """Reads the credential of a request. `header` is the field that a key may come in, besides Authorization."""

    __slots__ = ("_fields", "_header", "_ours")

    def __init__(self, header: str) -> None:
        self._header = header.lower().encode()
        name = re.escape(header.encode())
        self._fields = re.compile(rb"^(authorization|%b):([^\r\n]*)" % name, re.IGNORECASE | re.MULTILINE)
        # Without the end, so that an unfinished key does not go on either.
        self._ours = re.compile(
            rb"^(?:%b:[^\r\n]*|authorization:[ \t]*bearer[ \t]+gw_[^\r\n]*)\r\n" % name, re.IGNORECASE | re.MULTILINE
        )

    def read(self, lines: bytes) -> Presented:
        """The credential in the end-to-end fields of a request."""
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
        bearer = _BEARER.fullmatch(authorization) if authorization is not None else None
        token = (bearer[1] or b"").strip(b" ") if bearer is not None else b""
        if header:
            return _SEVERAL if token.startswith(b"gw_") else _key(header)
        return _key(token) if token else _NOTHING

    def without_keys(self, lines: bytes) -> bytes:
        """The fields without those that have a key of the gateway, which is no upstream's business."""
        return self._ours.sub(b"", lines)


def _key(written: bytes) -> Presented:
    match = _KEY.fullmatch(written)
    return Presented(MALFORMED, written) if match is None else Presented(KEY, written, match[1].decode())
