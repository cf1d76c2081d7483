"""How much the aliases of a YAML text may make of it.

An alias stands for a whole value, which may have aliases of its own: nine lines with nine aliases each make a billion
values. So the values that are met again are counted, and a text that has too many of them is refused before memory is.
"""

from typing import Final

MOST_REPEATED: Final = 100_000


class AliasesError(ValueError):
    """Aliases repeat more than `MOST_REPEATED` values."""

    def __init__(self) -> None:
        super().__init__(f"aliases that repeat more than {MOST_REPEATED} values")


class Repetitions:
    """Counts for one text. The containers that are told to it must live as long as it does."""

    def __init__(self) -> None:
        self._met: set[int] = set()
        self._repeated = 0

    def met(self, container: object, size: int) -> None:
        """A mapping or a list with so many members is gone into. Raises `AliasesError`."""
        if id(container) not in self._met:
            self._met.add(id(container))
            return
        self._repeated += 1 + size
        if self._repeated > MOST_REPEATED:
            raise AliasesError
