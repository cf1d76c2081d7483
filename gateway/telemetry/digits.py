"""Numbers in decimal, as bytes. It stays interpreted: a number that is in the table costs no call of Python anyway."""

from typing import Final


class _Digits(dict[int, bytes]):
    """Those below 1000, which most are. Others are made when they are asked for, and not kept."""

    def __missing__(self, number: int) -> bytes:
        return b"%d" % number


DIGITS: Final[dict[int, bytes]] = _Digits({number: b"%d" % number for number in range(1000)})
"""`DIGITS[n]` is n in decimal, for every n. HOT."""
