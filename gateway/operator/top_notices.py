"""What stands at the top of `gateway top` beside the health: trouble that is made on purpose, fallbacks in use, and
work that waits. A gateway of an older version tells nothing of it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from rich.text import Text

from gateway.operator.figures import duration, rate
from gateway.operator.output import clean

_MOST: Final = 3
_TO: Final = {"stale": "last good answers", "response": "the fixed response"}

Live = Mapping[str, Any]


def notices(live: Live) -> list[Text]:
    """A line each, faults first; of faults and of fallbacks no more than three."""
    faults = [_line(each, "bold reverse red") for each in _faults(live)]
    fallbacks = [_line(each, "yellow") for each in _fallbacks(live)]
    return [*faults[:_MOST], *fallbacks[:_MOST], *(_line(text, style) for text, style in _work(live))]


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _faults(live: Live) -> Iterator[str]:
    now = datetime.fromisoformat(live["time"])
    for each in live.get("faults", {}).values():
        left = duration((datetime.fromisoformat(each["until"]) - now).total_seconds())
        where = f" on route {clean(each['route'])}" if "route" in each else ""
        what = f"{clean(each['upstream'])}: {clean(each['does'])}, for {each['percent']:g} % of the attempts{where}"
        yield f" FAULT on purpose, {left} left: {what}. Why: {clean(each['reason'])} ({clean(each['by'])}) "


def _fallbacks(live: Live) -> Iterator[str]:
    for name, route in live.get("routes", {}).items():
        told = ", ".join(
            f"{clean(_TO.get(to, to))} {rate(value)}/s" for to, value in route.get("fallbacks", {}).items()
        )
        if told:
            yield f" ↪ {clean(name)}: its fallback is in use ({told})"


def _work(live: Live) -> Iterator[tuple[str, str]]:
    workflows, outbox = live.get("workflows"), live.get("outbox")
    if workflows is not None and (workflows["open"] or workflows["stuck"]):
        oldest = f", the oldest for {duration(workflows['oldestSeconds'])}" if workflows["oldestSeconds"] else ""
        text = f"   workflow runs: {workflows['open']} open{oldest}, {workflows['stuck']} stuck"
        yield text + (": gateway sagas list --state stuck" if workflows["stuck"] else ""), _bad(workflows["stuck"])
    if outbox is not None and (outbox["pending"] or outbox["dead"]):
        oldest = f", the oldest for {duration(outbox['oldestSeconds'])}" if outbox["pending"] else ""
        text = f"   outbox: {outbox['pending']} pending{oldest}, {outbox['dead']} given up"
        yield text + (": gateway outbox list --state dead" if outbox["dead"] else ""), _bad(outbox["dead"])


def _bad(count: int) -> str:
    return "red" if count else ""
