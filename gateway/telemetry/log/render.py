"""Values as text that is safe in a log: one line for each record, whatever a client put into it."""

import math
import re
import time
from typing import Final

import orjson

_DEPTH: Final = 8
_DELETE: Final = 0x7F
# In UTF-8: DEL and the controls U+0080 to U+009F, which some terminals obey; U+2028, U+2029, which end lines in
# JavaScript and in editors; what has no width or changes the direction of writing (U+00AD, U+061C, U+180E, U+200B to
# U+200F, U+202A to U+202E, U+2060 to U+206F, U+FEFF, U+FFF9 to U+FFFB); tag characters (U+E0000 to U+E007F).
_UNSEEN: Final = re.compile(
    rb"\x7f|\xc2[\x80-\x9f\xad]|\xd8\x9c|\xe1\xa0\x8e|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]"
    rb"|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]|\xf3\xa0[\x80\x81][\x80-\xbf]"
)


def rfc3339(when: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC with milliseconds, cut and not rounded."""
    second = math.floor(when)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{int((when - second) * 1000):03d}Z"


def json_line(record: dict[str, object]) -> bytes:
    """One JSON object and a newline. Nothing in the record makes it raise: undecodable text is escaped, and a value
    that JSON cannot express becomes its `str`. Characters that drive a terminal, end a line for some reader, or reorder
    or hide what is beside them are escaped too, though JSON allows them beyond ASCII."""
    try:
        line = orjson.dumps(record, _plain, orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # Lone surrogates, integers beyond 64 bits, keys that are not text, nesting without end.
        line = orjson.dumps(_plain(record), None, orjson.OPT_APPEND_NEWLINE)
    return line if line.isascii() and _DELETE not in line else _UNSEEN.sub(_escaped, line)


def _escaped(match: re.Match[bytes]) -> bytes:
    units = match[0].decode().encode("utf-16-be")
    return b"".join(b"\\u%b" % units[at : at + 2].hex().encode() for at in range(0, len(units), 2))


def bare(text: str) -> str:
    """Text with everything but printable characters and plain spaces escaped, so that it can neither end the line nor
    reorder it (bidirectional controls) nor drive the reader's terminal."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        character
        if character.isprintable() and character != "\\"
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 retry`, `2 retries`; `many` where an s is not enough."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def word(value: object) -> str:
    """A value of a `key=value` pair: quoted when it is empty or could be taken for more than one word."""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return ",".join(f"{word(key)}:{word(each)}" for key, each in value.items()) or '""'
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    text = bare(text)
    if not text or any(character in ' "=,' for character in text):
        return '"' + text.replace('"', r"\"") + '"'
    return text


def _plain(value: object, depth: int = _DEPTH) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if depth > 0:
        if isinstance(value, dict):
            return {str(_plain(str(key))): _plain(each, depth - 1) for key, each in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_plain(each, depth - 1) for each in value]
    return _plain(str(value))
