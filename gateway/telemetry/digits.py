"""Numbers in decimal, as bytes, out of tables: formatting costs several times as much."""

from typing import Final

_WHOLE: Final[tuple[bytes, ...]] = tuple([b"%d" % number for number in range(1000)])
_PADDED: Final[tuple[bytes, ...]] = tuple([b"%03d" % number for number in range(1000)])
_FRACTION: Final[tuple[bytes, ...]] = tuple([b".%03d" % number for number in range(1000)])


def decimal(number: int) -> bytes:
    """A number, not below zero. HOT."""
    if number < 1000:
        return _WHOLE[number]
    if number < 1_000_000:
        return _WHOLE[number // 1000] + _PADDED[number % 1000]
    return b"%d" % number


def milliseconds(seconds: float) -> bytes:
    """A time, not below zero, in milliseconds with three decimals. HOT."""
    microseconds = int(seconds * 1e6 + 0.5)
    whole = microseconds // 1000
    return (_WHOLE[whole] if whole < 1000 else decimal(whole)) + _FRACTION[microseconds % 1000]
