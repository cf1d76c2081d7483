"""The arguments of `gateway sagas` and `gateway outbox`."""

import argparse
from collections.abc import Callable
from typing import Any

from gateway.operator import outbox, sagas

Add = Callable[..., Any]
"""Adds one command: the subparsers, its name, the parser with the options that all have, what runs it, and a help."""

_ORDERS = (
    ("retry", "try again now what the run waits for, or is stuck at"),
    ("cancel", "compensate what the run has done, before its pivot"),
    ("skip", "go on as if what the run is stuck at had worked, because somebody has seen to it"),
    ("resolve", "end a run that is stuck, or that no gateway can go on with; nothing is sent"),
)


def add_sagas(commands: Any, common: argparse.ArgumentParser, add: Add) -> None:
    """`gateway sagas`."""
    runs = commands.add_parser("sagas", help="runs of workflows: list and show them, and see to those that do not end")
    actions = runs.add_subparsers(required=True, metavar="{list,show,retry,cancel,skip,resolve}")
    listed = add(actions, "list", common, sagas.listed, "the open runs counted, and the latest runs")
    states = ("running", "succeeded", "compensating", "compensated", "stuck", "damaged")
    listed.add_argument("--state", choices=states, help="only those in one state")
    listed.add_argument("--workflow", metavar="NAME", help="only those of one workflow")
    _page(listed)
    shown = add(actions, "show", common, sagas.shown, "one run, with its steps and events")
    shown.add_argument("id", help="as `gateway sagas list` says it")
    for action, does in _ORDERS:
        one = add(actions, action, common, sagas.ordered, does)
        one.set_defaults(action=action)
        one.add_argument("id", help="as `gateway sagas list` says it")
        if action == "resolve":
            one.add_argument("outcome", choices=["succeeded", "compensated"], help="how it has ended")
        one.add_argument("--reason", required=True, help="why, for the audit log and the events of the run")


def add_outbox(commands: Any, common: argparse.ArgumentParser, add: Add, seconds: Callable[[str], float]) -> None:
    """`gateway outbox`. `seconds` reads a time such as 2h."""
    messages = commands.add_parser("outbox", help="messages to be delivered: list, show and replay them")
    actions = messages.add_subparsers(required=True, metavar="{list,show,replay}")
    listed = add(actions, "list", common, outbox.listed, "the messages counted, and the latest of them")
    listed.add_argument(
        "--state", choices=["queued", "sending", "delivered", "dead", "damaged"], help="only those in one state"
    )
    listed.add_argument("--target", metavar="ROUTE", help="only those of one route")
    _page(listed)
    shown = add(actions, "show", common, outbox.shown, "one message; never what is in it")
    shown.add_argument("id", help="as `gateway outbox list` says it")
    again = add(actions, "replay", common, outbox.replay, "deliver one message again, or those of a time")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", help="of one message, whatever has become of it")
    which.add_argument("--since", type=seconds, metavar="TIME", help="those that came since so long ago, such as 2h")
    again.add_argument("--until", type=seconds, default=0.0, metavar="TIME", help="and before so long ago (now)")
    again.add_argument("--state", choices=["dead", "delivered"], default="dead", help="those in this state (dead)")
    again.add_argument("--target", metavar="ROUTE", help="those of one route")


def _page(parser: Any) -> None:
    parser.add_argument("--before", metavar="ID", help="only older ones than this")
    parser.add_argument("--count", type=int, default=20, help="at most so many (20)")
