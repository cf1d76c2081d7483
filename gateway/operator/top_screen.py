"""What `gateway top` shows of one snapshot (`GET /api/resilience/live`)."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gateway.operator.figures import latency, rate
from gateway.operator.output import clean
from gateway.operator.top_notices import notices

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_MARKS: Final = {"Healthy": "●", "Degraded": "▲", "Unhealthy": "■"}
_STYLES: Final = {"Healthy": "green", "Degraded": "yellow", "Unhealthy": "red"}
_CIRCUITS: Final = {"Closed": ("closed", "green"), "HalfOpen": ("half-open", "yellow"), "Open": ("open", "red")}
LINE: Final = 24
"""The seconds of the line of each service."""

_WIDTHS: Final = {
    "REQ/S": 6,
    "LAST 24 S": LINE,
    "IN FLIGHT": 9,
    "P50": 7,
    "P95": 7,
    "P99": 7,
    "ERRORS": 6,
    "CIRCUIT": 9,
    "RETRIES": 7,
    "ENDPOINTS": 9,
    "SHED": 5,
    "LIMITED": 7,
}
"""The columns beside the names, in their order, with how wide what they show usually is."""
_GIVEN_UP: Final = ("LAST 24 S", "P50", "LIMITED", "RETRIES", "P99", "SHED", "ENDPOINTS", "REQ/S", "IN FLIGHT")
"""The columns that can be missed, the first of them most easily."""
_LEFT: Final = ("LAST 24 S", "CIRCUIT")
_NAMES: Final = 16
"""So much of the names is shown before a column is given up for more of them."""
_PADDING: Final = 2

Service = Mapping[str, Any]


def screen(
    live: Mapping[str, Any],
    lines: Mapping[str, list[float]],
    errors: Iterable[Mapping[str, Any]],
    *,
    sort: str,
    height: int,
    width: int,
    lost: str = "",
) -> Group:
    """The whole of it, at most `height` rows of `width` columns. `lines` are the rates of each service, the latest one
    last; `errors` the latest first; `lost` says why the figures are not those of now."""
    parts: list[Text | Table] = [_title(live), _facts(live)]
    if lost:
        parts.append(Text(clean(lost), style="bold yellow", no_wrap=True, overflow="ellipsis"))
    parts += notices(live)[: max(1, height // 3)]
    parts += [_reason(live["gateway"]["status"], each) for each in live["gateway"]["reasons"][:4]]
    services = _sorted(live["services"], sort)
    left = max(3, height - len(parts) - 3)
    shown = services[:left]
    parts.append(_table(shown, lines, width))
    left -= len(shown) + 1
    if left > 1:
        records = _together(errors)[: left - 1]
        parts += [Text()] * bool(records)
        parts += [_error(each, times) for each, times in records]
    return Group(*parts)


def _together(errors: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    """Those that follow each other and say the same, as the latest of them and how many they are."""
    found: list[tuple[Mapping[str, Any], int]] = []
    for each in errors:
        if found and all(found[-1][0][name] == each[name] for name in ("service", "reason", "status", "message")):
            found[-1] = found[-1][0], found[-1][1] + 1
        else:
            found.append((each, 1))
    return found


def _title(live: Mapping[str, Any]) -> Text:
    gateway = live["gateway"]
    status = gateway["status"]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{clean(gateway['service'])} {gateway['version']}  ", style="bold")
    text.append(f"{_MARKS[status]} {status}", style=f"bold {_STYLES[status]}")
    text.append(f"  {_clock(live['time'])}, q ends", style="dim")
    return text


def _facts(live: Mapping[str, Any]) -> Text:
    gateway = live["gateway"]
    ready = sum(each["state"] == "ready" for each in gateway["workers"].values())
    # By the caps of the gateway, and by the bulkheads of the services.
    shed = gateway["shed"] + sum(each["refused"].get("bulkhead_full", 0.0) for each in live["services"].values())
    text = Text(no_wrap=True, overflow="ellipsis")
    facts = (
        (f"{rate(gateway['requests'])} req/s", ""),
        (f"{rate(gateway['failed'])} failed/s", "red" if gateway["failed"] else ""),
        (f"{rate(gateway['tooMany'])} 429/s", "yellow" if gateway["tooMany"] else ""),
        (f"{rate(shed)} shed/s", "red" if shed else ""),
        (f"{gateway['inFlight']}/{gateway['limit']} in flight", ""),
        (f"p99 {latency(gateway.get('p99'))}", ""),
        (f"{ready}/{gateway['workersWanted']} workers", "red" if ready < gateway["workersWanted"] else ""),
        _store(gateway.get("store")),
    )
    for at, (fact, style) in enumerate(facts):
        text.append("  " if at else "")
        text.append(fact, style=style)
    return text


def _store(store: Mapping[str, Any] | None) -> tuple[str, str]:
    if store is None:
        return "no store", ""
    name = "Redis" if store["kind"] == "redis" else "embedded store"
    return (f"{name} up", "") if store["up"] else (f"{name} away", "bold red")


def _reason(status: str, reason: str) -> Text:
    return Text(f" → {clean(reason)}", style=_STYLES[status], no_wrap=True, overflow="ellipsis")


def _sorted(services: Mapping[str, Service], sort: str) -> list[tuple[str, Service]]:
    keys = {
        "worst": lambda each: -_hurt(each[1]),
        "name": lambda each: each[0],
        "requests": lambda each: -each[1]["requests"],
        "errors": lambda each: -each[1]["errorRate"],
        "p95": lambda each: -each[1].get("p95", 0.0),
        "in-flight": lambda each: -each[1]["inFlight"],
    }
    return sorted(sorted(services.items()), key=keys[sort])


def _hurt(seen: Service) -> float:
    """In steps, so that rows do not change places all the time."""
    status: float = {"Unhealthy": 1000.0, "Degraded": 500.0}.get(seen["status"], 0.0)
    out = sum(not each["available"] for each in seen["endpoints"].values())
    busy = 8 * (seen["shed"] > 0) + 4 * (seen["limited"] > 0) + 2 * (seen["retries"] > 0)
    return status + 20.0 * math.ceil(float(seen["errorRate"]) * 10) + 10 * out + float(busy)


def _table(services: Iterable[tuple[str, Service]], lines: Mapping[str, list[float]], width: int) -> Table:
    rows = [(_service(name, seen), _figures(seen, lines.get(name, []))) for name, seen in services]
    names = min(_NAMES, max((each.cell_len for each, _ in rows), default=0))
    columns = _columns(width - max(names, len("SERVICE")) - _PADDING)
    table = Table(box=None, padding=(0, 1), expand="LAST 24 S" not in columns, header_style="dim")
    table.add_column("SERVICE", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    taken = sum(max(len(name), *(each[name].cell_len for _, each in rows), 0) + _PADDING for name in columns)
    for service, figures in rows:
        # A name that is too long is cut, and no figure: of "0.7 ms" without its end nobody knows the unit.
        service.truncate(max(_NAMES // 2, width - taken - _PADDING), overflow="ellipsis")
        table.add_row(service, *(figures[name] for name in columns))
    return table


def _columns(width: int) -> list[str]:
    """Those for which there is room in so much of the terminal. None comes and goes with the figures."""
    columns = dict(_WIDTHS)
    for name in _GIVEN_UP:
        if sum(columns.values()) + _PADDING * len(columns) <= width:
            break
        del columns[name]
    return list(columns)


def _service(name: str, seen: Service) -> Text:
    status = seen["status"]
    return Text.assemble((f"{_MARKS[status]} ", _STYLES[status]), (clean(name), "bold"))


def _figures(seen: Service, line: list[float]) -> dict[str, Text]:
    """By column."""
    up = sum(each["available"] for each in seen["endpoints"].values())
    total = len(seen["endpoints"])
    full = seen["inFlight"] / max(1, seen["limit"])
    errors = seen["errorRate"]
    waiting = f" +{seen['queued']}" if seen["queued"] else ""
    # What is found out stands for itself; what is only observed is not in force.
    found = "~" if seen.get("adaptive", {}).get("mode") == "enforce" else ""
    return {
        "REQ/S": Text(rate(seen["requests"])),
        "LAST 24 S": Text(sparkline(line[-LINE:]), style="cyan"),
        "IN FLIGHT": Text(f"{seen['inFlight']}/{found}{seen['limit']}{waiting}", style=_warned(full, 0.7, 0.9)),
        **{name: Text(latency(seen.get(name.lower()))) for name in ("P50", "P95", "P99")},
        "ERRORS": Text(f"{errors:.1%}", style=_warned(errors, 0.0001, 0.5)),
        "CIRCUIT": _circuit(seen.get("circuit")),
        "RETRIES": Text(rate(seen["retries"]), style="yellow" if seen["retries"] else ""),
        "ENDPOINTS": Text(f"{up}/{total}", style="red" if not up else "yellow" if up < total else ""),
        "SHED": Text(rate(seen["shed"]), style="red" if seen["shed"] else ""),
        "LIMITED": Text(rate(seen["limited"]), style="yellow" if seen["limited"] else ""),
    }


def _circuit(circuit: Mapping[str, Any] | None) -> Text:
    if circuit is None:
        return Text("-")
    word, style = _CIRCUITS[circuit["state"]]
    return Text(f"held {word}" if circuit["forced"] else word, style=style)


def _error(each: Mapping[str, Any], times: int) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{_clock(each['time'])} ", style="dim")
    text.append(f"{clean(each['service'])} ")
    text.append(
        f"{clean(each['reason'])} ", style="red" if each["status"] is None or each["status"] >= 500 else "yellow"
    )
    text.append(f"{each['status'] or '-'} {clean(each['message'])}")
    text.append(f" {times} times" if times > 1 else "", style="bold")
    text.append(f"  {clean(each['requestId'])}", style="dim")
    return text


def _warned(value: float, warn: float, bad: float) -> str:
    return "red" if value >= bad else "yellow" if value >= warn else ""


def sparkline(values: list[float]) -> str:
    """Values as blocks, the largest as the highest."""
    most = max(values, default=0.0)
    return "".join(_BLOCKS[round(value / most * 8)] if most > 0 else _BLOCKS[0] for value in values).rjust(LINE)


def _clock(instant: str) -> str:
    return datetime.fromisoformat(instant).astimezone().strftime("%H:%M:%S")
