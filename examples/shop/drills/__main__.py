"""`python -m shop.drills`, or `make drills`: plays the incidents of the runbook on a shop of its own.

Exit status 0 if every drill has passed and every service level is kept, 1 if not, 2 for a wrong command line.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from shop.drills.play import INCIDENTS, Incident, play
from shop.drills.report import service_levels, summary
from shop.drills.world import World
from shop.processes import Failure


async def run(
    directory: Path, incidents: Sequence[Incident], arguments: argparse.Namespace, tell: Callable[[str], None]
) -> bool:
    """Whether all is good."""
    world = World(directory, quick=arguments.quick, slack=arguments.slack)
    try:
        await world.open()
        drills = await play(world, incidents, tell)
    finally:
        await world.close()
    levels = service_levels(drills, world.met, arguments.slack)
    for line in summary(drills, levels):
        tell(line)
    return all(drill.good for drill in drills) and all(level.good for level in levels)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make drills", description="Play the incidents of the runbook on a shop.")
    parser.add_argument("--quick", action="store_true", help="shorter incidents, in about a minute")
    parser.add_argument("--only", metavar="NAME", action="append", help="may be repeated; see --list")
    parser.add_argument("--list", action="store_true", help="the names of the drills")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the databases and logs there")
    parser.add_argument(
        "--slack", type=float, default=1.0, help="multiplies what may take time or fail, on a machine that is busy"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.only or ()) - {incident.name for incident in INCIDENTS}
    if unknown:
        parser.error(f"there is no drill {', '.join(sorted(unknown))}; see --list")
    return arguments


def _chosen(arguments: argparse.Namespace) -> list[Incident]:
    if arguments.only:
        return [incident for incident in INCIDENTS if incident.name in arguments.only]
    return [incident for incident in INCIDENTS if incident.quick or not arguments.quick]


def main() -> int:
    """The exit status."""
    arguments = _arguments()
    if arguments.list:
        print("\n".join(f"{incident.name:16} {incident.title}" for incident in INCIDENTS))
        return 0
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    try:
        with tempfile.TemporaryDirectory(prefix="shop-drills-") as temporary:
            directory = Path(temporary)
            if arguments.keep is not None:
                directory = arguments.keep.resolve()
                directory.mkdir(parents=True, exist_ok=True)
            good = asyncio.run(run(directory, _chosen(arguments), arguments, tell))
    except Failure as failure:
        print(f"drills: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.report is not None:
        arguments.report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
