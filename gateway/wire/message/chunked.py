"""Chunked bodies (RFC 9112 section 7.1): a strict incremental decoder, and the encoder.

Invariant: what `feed` says depends only on the bytes seen so far, never on how they were split; a body ends at the
LF of its last CRLF and not a byte of what follows is looked at. A line that can no longer become valid is refused
with its first wrong byte, without waiting for its end, so that a peer out of step is not left hanging; only the grammar
within an extension is looked at when its line is complete.

Stricter than "be liberal": CRLF exactly, 1 to 16 hexadecimal digits, extensions by the grammar and bounded over the
whole body (an endless extension is a denial of service no body limit sees), no obs-fold, no control bytes. Bad
whitespace is taken only where the grammar has BWS, around the ";" and "=" of an extension: never between the digits
and the CRLF, where recipients are known to disagree.

A peer may send chunks of one byte, tens of thousands of them in one read. Chunks of less than 16 bytes without
extensions are therefore taken by two regular expressions, a whole run at a time, and cost some 100 ns each.

Left out on purpose: the meaning of extensions and trailers (they are checked, bounded and dropped), and any limit on
the payload.
"""

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"  # field content and the inside of an extension: no other control bytes
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\' + _TEXT + rb')*+"'
_EXTENSION: Final = rb"[ \t]*+;[ \t]*+" + _TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"

_PLAIN_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)\r\n")
_TRAILER_LINE: Final = re.compile(_TOKEN + rb":" + _TEXT + rb"*\r\n")
# What a line still without its LF may look like: a superset of every prefix of the two above.
_SIZE_PREFIX: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*+(?:;" + _TEXT + rb"*+\r?)?|\r)")
_TRAILER_PREFIX: Final = re.compile(rb"(?:" + _TOKEN + rb"(?::" + _TEXT + rb"*+\r?)?|\r)")


def _small_chunks(size_line: bytes) -> Iterator[bytes]:
    """The patterns of chunks whose size has one significant digit, the smallest first, without the last CRLF."""
    for size in range(1, 16):
        digit = b"%x" % size
        if size > 9:
            digit = b"[%b%b]" % (digit, digit.upper())
        yield size_line % digit + b".{%d}" % size


_SMALL: Final = 64  # After a chunk below this size a run is looked for.
_ZEROS: Final = rb"0{0,15}+"
# Possessive: a run is never given back, so no memory is spent on how it could be.
_RUN: Final = re.compile(rb"(?:" + _ZEROS + rb"(?:" + b"|".join(_small_chunks(rb"%b\r\n")) + rb")\r\n)++", re.DOTALL)
# Within a run, where one chunk begins at the end of the other: their payloads, as the only group.
_PAYLOADS: Final = re.compile(
    _ZEROS + rb"[1-9A-Fa-f]\r\n(" + b"|".join(_small_chunks(rb"(?<=%b\r\n)")) + rb")\r\n", re.DOTALL
)

_SIZE: Final = 0
_PAYLOAD: Final = 1
_PAYLOAD_END: Final = 2
_TRAILERS: Final = 3
_DONE: Final = 4
_FAILED: Final = 5

LAST_CHUNK: Final = b"0\r\n\r\n"


class ChunkedError(ValueError):
    """The body is not valid chunked coding; where it ends is unknown, so the connection is of no further use."""


def encode_chunk(data: bytes) -> bytes:
    """`data` as one chunk; nothing for no data, because a chunk of size zero ends the body (see `LAST_CHUNK`)."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkedDecoder:
    """Decodes one body. `done` is true once it has ended."""

    __slots__ = (
        "_extension_bytes",
        "_held",
        "_max_extension_bytes",
        "_max_trailer_bytes",
        "_max_trailer_count",
        "_remaining",
        "_state",
        "_trailer_bytes",
        "_trailer_count",
        "done",
    )

    def __init__(
        self, max_trailer_bytes: int = 8192, max_trailer_count: int = 100, max_extension_bytes: int = 4096
    ) -> None:
        """`max_extension_bytes` and `max_trailer_bytes` are sums over the whole body, line ends not counted."""
        self.done = False
        self._max_trailer_bytes = max_trailer_bytes
        self._max_trailer_count = max_trailer_count
        self._max_extension_bytes = max_extension_bytes
        self._state = _SIZE
        self._remaining = 0
        self._held = b""  # the line, or the CR after a payload, that is still incomplete
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailer_count = 0

    def __repr__(self) -> str:
        state = ("size", "payload", "payload end", "trailers", "done", "failed")[self._state]
        return f"<ChunkedDecoder {state}, remaining={self._remaining}>"

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The payload in `data`, and what follows the end of the body (empty until `done`). HOT.

        Raises ChunkedError, then and on every later call; payload decoded from the offending `data` is lost.
        """
        state = self._state
        if state >= _DONE:
            if state == _FAILED:
                raise ChunkedError("the body was already refused")
            return b"", data
        pos = 0
        end = len(data)
        remaining = self._remaining
        pieces: list[bytes] = []
        while pos < end:
            if state == _PAYLOAD:
                stop = pos + remaining
                if stop > end:
                    pieces.append(data[pos:] if pos else data)  # no copy, compiled either
                    remaining = stop - end
                    break
                pieces.append(data[pos:stop])
                remaining = 0
                pos = stop
                state = _PAYLOAD_END
            elif state == _PAYLOAD_END:
                if data.startswith(b"\r\n", pos) and not self._held:
                    pos += 2
                else:
                    wanted = b"\n" if self._held else b"\r"
                    if not data.startswith(wanted, pos):
                        raise self._refusal("no CRLF after the payload of a chunk")
                    pos += 1
                    if not self._held:
                        self._held = b"\r"
                        continue
                    self._held = b""
                state = _SIZE
            elif state == _SIZE:
                if not self._held and (plain := _PLAIN_SIZE_LINE.match(data, pos)):
                    remaining = int(plain[1], 16)
                    pos = plain.end()
                else:
                    line, pos = self._line(data, pos)
                    if not line:
                        self._check_size_prefix()
                        break
                    remaining = self._size(line)
                if remaining:
                    stop = pos + remaining
                    if data.startswith(b"\r\n", stop):  # the whole chunk is here
                        pieces.append(data[pos:stop])
                        pos = stop + 2
                        if remaining < _SMALL and (run := _RUN.match(data, pos)) is not None:
                            # Where one is small the next ones may be.
                            pieces += _PAYLOADS.findall(data, pos, run.end())
                            pos = run.end()
                        remaining = 0
                        if data.startswith(LAST_CHUNK, pos):
                            pos += 5
                            state = _DONE
                            self.done = True
                            break
                    else:
                        state = _PAYLOAD
                elif data.startswith(b"\r\n", pos):  # no trailers
                    pos += 2
                    state = _DONE
                    self.done = True
                    break
                else:
                    state = _TRAILERS
            else:
                line, pos = self._line(data, pos)
                if not line:
                    self._check_trailer_prefix()
                    break
                if line == b"\r\n":
                    state = _DONE
                    self.done = True
                    break
                self._check_trailer(line)
        self._state = state
        self._remaining = remaining
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return payload, data[pos:] if state == _DONE else b""

    def _line(self, data: bytes, pos: int) -> tuple[bytes, int]:
        """The line that ends in `data`, its LF included, and the position after it; or nothing, and it is held."""
        newline = data.find(b"\n", pos)
        if newline < 0:
            self._held += data[pos:]
            return b"", len(data)
        line = self._held + data[pos : newline + 1]
        self._held = b""
        return line, newline + 1

    def _size(self, line: bytes) -> int:
        if len(line) > self._max_extension_bytes + 18:
            # Before the grammar is tried on it, which costs more than the counting.
            raise self._refusal("chunk extensions too large")
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise self._refusal("invalid chunk size line")
        extension: bytes = match[2]
        self._extension_bytes += len(extension)
        if self._extension_bytes > self._max_extension_bytes:
            raise self._refusal("chunk extensions too large")
        return int(match[1], 16)

    def _check_size_prefix(self) -> None:
        match = _SIZE_PREFIX.fullmatch(self._held)
        if match is None:
            raise self._refusal("invalid chunk size line")
        if self._extension_bytes + len(self._held.removesuffix(b"\r")) - match.end(1) > self._max_extension_bytes:
            raise self._refusal("chunk extensions too large")

    def _check_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line) - 2
        if self._trailer_bytes > self._max_trailer_bytes or self._trailer_count == self._max_trailer_count:
            raise self._refusal("trailers too large")
        if _TRAILER_LINE.fullmatch(line) is None:
            raise self._refusal("invalid trailer")
        self._trailer_count += 1

    def _check_trailer_prefix(self) -> None:
        if _TRAILER_PREFIX.fullmatch(self._held) is None:
            raise self._refusal("invalid trailer")
        if self._trailer_bytes + len(self._held.removesuffix(b"\r")) > self._max_trailer_bytes:
            raise self._refusal("trailers too large")

    def _refusal(self, reason: str) -> ChunkedError:
        self._state = _FAILED
        self._held = b""
        return ChunkedError(reason)
