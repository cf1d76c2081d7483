"""Who is to be woken when something was committed."""

from collections.abc import Callable, Iterable

from gateway.journal.port import Woken


class Listeners:
    """By topic. Everything is called on the event loop."""

    __slots__ = ("_by_topic",)

    def __init__(self) -> None:
        self._by_topic: dict[str, list[Woken]] = {}

    def __len__(self) -> int:
        return len(self._by_topic)

    def add(self, topic: str, woken: Woken) -> Callable[[], None]:
        """Call `woken` for this topic, until the returned function is called."""
        self._by_topic.setdefault(topic, []).append(woken)

        def end() -> None:
            listening = self._by_topic.get(topic, [])
            if woken in listening:
                listening.remove(woken)
            if not listening:
                self._by_topic.pop(topic, None)

        return end

    def wake(self, topics: Iterable[str]) -> None:
        """Something was committed for these topics."""
        for topic in dict.fromkeys(topics):
            for woken in list(self._by_topic.get(topic, ())):
                woken()

    def wake_all(self) -> None:
        """Something was committed, and it is not known for what."""
        self.wake(list(self._by_topic))
