"""How a setting is declared.

A `Section` is a pydantic model whose fields carry their range, unit, environment variable and meaning:

    connect: Annotated[Seconds, Interval(ge=0.001, le=300), Env("UPSTREAM_CONNECT_TIMEOUT", "Time to connect")] = 2.0

A key that only the file has carries a `Meaning` in place of the variable.

The same sections read the environment (text, converted) and the file (typed strictly). Names, ranges and defaults in
messages, in `.env.example` and in the documentation are all derived from here.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from gateway.syntax import units


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a number, for messages and tables."""

    name: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is allowed, in words, where type and range do not say it."""

    text: str


@dataclass(frozen=True, slots=True)
class Env:
    """The environment variable of a field. `meaning` is one line; `unset` says what it means to leave it out."""

    name: str
    meaning: str
    unset: str = ""
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a key of the YAML file means that has no variable. `unset` says what it means to leave it out, where its
    default does not."""

    meaning: str
    unset: str = ""


Seconds = Annotated[float, BeforeValidator(units.read_by(units.duration)), Unit("seconds")]
Hours = Annotated[float, BeforeValidator(units.read_by(units.duration, units.TIMES["h"])), Unit("hours")]
Bytes = Annotated[int, BeforeValidator(units.read_by(units.size)), Unit("bytes")]


class Section(BaseModel):
    """Settings that belong together. Keys that it does not know, and numbers that are not finite, are refused.

    `defer_build`: a section is built as a part of the model that contains it, and not once more alone at the start.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )
