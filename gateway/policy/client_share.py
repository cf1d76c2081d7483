"""How many of the places in flight one client may hold, so that none can take them all.

Whoever holds fewer than `limit` is within its share. While all together hold fewer, so does each of them: then there is
nothing to look up, which is the usual case.
"""


class ClientShare:
    """`limit` places for each client. What was taken must be given back exactly once."""

    __slots__ = ("_held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: dict[str, int] = {}

    def __len__(self) -> int:
        """Clients that hold a place."""
        return len(self._held)

    def held_by(self, client: str) -> int:
        """How many places the client holds."""
        return self._held.get(client, 0)

    def used_up(self, client: str) -> bool:
        """Whether the client holds as many as it may. HOT."""
        return self._held.get(client, 0) >= self.limit

    def take(self, client: str) -> None:
        """HOT."""
        held = self._held
        held[client] = held.get(client, 0) + 1

    def give_back(self, client: str) -> None:
        """HOT."""
        held = self._held
        left = held[client] - 1
        if left:
            held[client] = left
        else:
            del held[client]
