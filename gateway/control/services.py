"""The names of services: the configured upstreams, in any case."""

from collections.abc import Iterable

from gateway.control.serving.problem import RefusalError


class Services:
    """Finds by the exact name first, so that names which differ in case alone stay distinct."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._folded = {name.casefold(): name for name in reversed(self.names)}

    def named(self, given: str) -> str:
        """The configured name. Raises `RefusalError` (404), which lists the known ones."""
        name = given if given in self.names else self._folded.get(given.casefold())
        if name is None:
            raise RefusalError(
                404,
                f"There is no service of this name. Known: {', '.join(self.names) or 'none'}.",
                reason="unknown_service",
                members={"known": list(self.names)},
            )
        return name
