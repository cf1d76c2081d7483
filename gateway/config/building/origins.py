"""Where each effective setting comes from: a line of a file, the environment, or the default."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway.config.building.sources import Sources
from gateway.config.building.variables import VARIABLES
from gateway.config.problems import shown
from gateway.config.reading.yaml_tree import Location, dotted

DEFAULT = "default"


class Origin(NamedTuple):
    """`value` is as it was written and fit to be shown; `source` is `default`, `default, …`, `environment NAME` or
    `file:line NAME`, by the name that was used."""

    setting: str
    value: str
    source: str

    @property
    def is_default(self) -> bool:
        """Whether nobody set it, and no other setting changed its default."""
        return self.source == DEFAULT


def of(sources: Sources) -> Iterator[Origin]:
    """Every variable, then the defaults that gave way, then every value of the YAML file."""
    for name, variable in VARIABLES.items():
        secret = variable.env.secret
        given = sources.variables.given.get(name)
        if given is not None:
            yield Origin(name, shown(given.written, secret=secret), given.source)
            continue
        if name not in sources.given_way:
            yield Origin(name, variable.default_text or "not set", DEFAULT)
    for name, (value, other) in sources.given_way.items():
        yield Origin(name, shown(value), f"{DEFAULT}, gives way to {other}")
    for location in sources.tree.lines:
        value = _at(sources.tree.root, location)
        if location and not isinstance(value, dict) and not _has_parts(value):
            written = sources.tree.written.get(location)
            # Nobody gets a key out of its hash, and nobody needs to see it: the id says which key it is. The value of a
            # header field may be a key, and so may one of the settings of a hook.
            secret = location[-1] == "sha256" or location[-2:-1] in (("set",), ("append",)) or "settings" in location
            told = shown(value, secret=secret)
            text = told if written is None else f"{told} from {shown(written)}"
            place = sources.tree.source(location)
            yield Origin(dotted(location), text, place[: -len(dotted(location)) - 1])


def _has_parts(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _at(root: Any, location: Location) -> Any:
    for step in location:
        root = root[step]
    return root
