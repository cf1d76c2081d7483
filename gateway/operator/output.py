"""What a command prints: JSON as the gateway gave it, or text for people.

Text of the gateway may quote what clients and upstreams sent: it is printed without control characters, so that none of
them reaches the terminal.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any


def write_json(answer: Any) -> None:
    """Print the gateway's answer as it is, indented."""
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def write_lines(lines: Iterable[str]) -> None:
    """Print text for people, without control characters."""
    sys.stdout.writelines(f"{clean(line).rstrip()}\n" for line in lines)


def table(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Aligned columns under their names; nothing for no rows."""
    texts = [{name: clean(str(cell)) for name, cell in row.items()} for row in rows]
    if not texts:
        return []
    cells = [[name.upper() for name in texts[0]], *(list(row.values()) for row in texts)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)) for row in cells]


def page(*tables: list[str]) -> list[str]:
    """Tables under each other, with a blank line before each; those without rows are left out."""
    return [line for rows in tables if rows for line in ("", *rows)]


def more(answer: Mapping[str, Any]) -> list[str]:
    """How to ask for the next page of a list; nothing after the last one."""
    return [f"there are more: --before {answer['nextPage']}"] if answer["nextPage"] else []


def age(seconds: float) -> str:
    """A time in its two largest units."""
    whole = max(0, int(seconds))
    units = (("d", whole // 86_400), ("h", whole // 3600 % 24), ("m", whole // 60 % 60), ("s", whole % 60))
    first = next((at for at, (_, number) in enumerate(units) if number), len(units) - 1)
    return " ".join(f"{number}{unit}" for unit, number in units[first : first + 2])


def since(instant: str) -> str:
    """The time since an instant that the gateway has told, by the clock of this machine."""
    return age((datetime.now(UTC) - datetime.fromisoformat(instant)).total_seconds())


def percent(share: float) -> str:
    """A share between 0 and 1 as a percentage with one decimal."""
    return f"{share:.1%}"


def clean(text: str) -> str:
    """The text without what could drive a terminal."""
    return "".join(each if each.isprintable() else "�" for each in text)
