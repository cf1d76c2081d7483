"""Several things that the exchange with the fleet reads when the store's version has changed, as one."""

from gateway.fleet.sync import Followed


class Following:
    """A `Followed` of several. What is added later is read from then on."""

    def __init__(self, *followed: Followed) -> None:
        self._followed = list(followed)

    def add(self, followed: Followed) -> None:
        """Read this one too."""
        self._followed.append(followed)

    @property
    def interval(self) -> float | None:
        """The shortest that one of them wants."""
        wanted = [each.interval for each in self._followed if each.interval is not None]
        return min(wanted) if wanted else None

    async def refresh(self) -> None:
        """Read all of them. Raises `StoreUnavailable`."""
        for each in self._followed:
            await each.refresh()
