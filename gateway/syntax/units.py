"""Amounts of time and of bytes as people write them: `500ms`, `5s`, `2m`, `1h`, `64KiB`, `1MB`.

A plain number has the setting's own unit, which its declaration says. `KB`, `MB`, `GB` are powers of 1000, `KiB`,
`MiB`, `GiB` powers of 1024 (IEC 80000-13), in any case of letters; `K`, `M`, `G` alone are refused, because programs
disagree on what they mean. Units of time are in lower case.
"""

import re
from collections.abc import Callable
from math import isfinite

_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?([A-Za-z]+)", re.ASCII)

TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
SIZES = {
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}

TIME_EXAMPLES = "such as 0.5, 500ms, 5s, 2m or 1h"
SIZE_EXAMPLES = "such as 65536, 64KiB or 1MB"


def number(text: str) -> float | None:
    """The number that a text is in the notation of YAML 1.2, or None: unlike `float`, no `1_0`, `inf`, `nan`, digits of
    other scripts, or blanks around it."""
    found = float(text) if _NUMBER.fullmatch(text) else None
    return found if found is not None and isfinite(found) else None


def duration(text: str) -> float | None:
    """Seconds, or None where the text is no number with a unit of time."""
    found = _AMOUNT.fullmatch(text.strip())
    factor = TIMES.get(found[2]) if found else None
    # Rounded, so that 100ms is the same number as 0.1.
    return round(float(found[1]) * factor, 9) if found and factor else None


def size(text: str) -> int | None:
    """Bytes, or None where the text is no number with a unit of size, or no whole number of bytes."""
    found = _AMOUNT.fullmatch(text.strip())
    factor = SIZES.get(found[2].lower()) if found else None
    if not found or not factor:
        return None
    amount = float(found[1]) * factor
    return int(amount) if amount.is_integer() else None


def read_by(parse: Callable[[str], float | None], per_unit: float = 1.0) -> Callable[[object], object]:
    """What to put before a validator of numbers: text with a unit becomes a number, anything else stays as it is."""

    def read(value: object) -> object:
        amount = parse(value) if isinstance(value, str) else None
        return value if amount is None else amount if per_unit == 1.0 else amount / per_unit

    return read
