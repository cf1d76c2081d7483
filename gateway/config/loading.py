"""Environment, `.env` and file in; one `GatewayConfig` or every problem out."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gateway.config.assemble import assemble
from gateway.config.building import notices, origins, variables
from gateway.config.building.origins import Origin
from gateway.config.building.sources import Sources
from gateway.config.building.variables import NAMES, VARIABLES, Variables
from gateway.config.declaring.inspection import nest, problem
from gateway.config.model import GatewayConfig
from gateway.config.problems import ConfigError, Notice, Problem, in_order, nearest, shown
from gateway.config.reading import yaml_tree
from gateway.config.reading.text_files import Texts
from gateway.config.reading.yaml_tree import Tree
from gateway.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective configuration, notices of what was probably not meant, and where each setting comes from."""

    config: GatewayConfig
    notices: tuple[Notice, ...]
    origins: tuple[Origin, ...]


def load(environ: Mapping[str, str] = os.environ, env_file: Path | None = Path(".env")) -> GatewayConfig:
    """The effective configuration alone: see `read`."""
    return read(environ, env_file).config


def read(
    environ: Mapping[str, str] = os.environ, env_file: Path | None = Path(".env"), texts: Texts | None = None
) -> Loaded:
    """The effective configuration, with notices and origins.

    `env_file` may be absent; `environ` wins over it. Files are named relative to the working directory, and read
    through `texts`. Raises `ConfigError` with everything that is wrong, in the order of the lines; no message contains
    a secret.
    """
    texts = texts or Texts()
    given = variables.read(environ, env_file, texts)
    problems = list(given.problems)
    settings, broken = _settings(given, problems)
    tree = _tree(settings.process.config_file, given, problems, texts)
    given.referred_to(tree.references)
    problems += given.strangers.values()
    sources = Sources(settings, given, broken, tree, texts, problems)
    config = assemble(sources)
    if problems:
        raise ConfigError(in_order(problems))
    found = [*given.notices, *notices.nothing_said(given, tree), *sources.notices]
    return Loaded(config, tuple(in_order(found)), tuple(origins.of(sources)))


def _settings(given: Variables, problems: list[Problem]) -> tuple[Settings, frozenset[str]]:
    """The settings, and the names of the variables that had to be left out of them."""
    values = {name: each.value for name, each in given.given.items()}
    broken = set()
    for name, variable in VARIABLES.items():
        meant = variable.without_separators(values[name]) if name in values else None
        if meant is not None:
            each = given.given[name]
            problems.append(Problem(each.source, shown(each.written), each.allowed or variable.allowed, meant))
            broken.add(name)
            del values[name]
    try:
        return Settings(**nest(Settings, values)), frozenset(broken)
    except ValidationError as error:
        details = error.errors()
    for detail in details:
        path = tuple(step for step in detail["loc"] if isinstance(step, str))
        name = NAMES[path]
        each = given.given[name]
        broken.add(name)
        secret = VARIABLES[name].env.secret
        found = problem(Settings, detail, each.source, secret=secret)
        if path == detail["loc"]:  # The variable has a list, and each of its items is shown by itself.
            value = shown(each.written, secret=secret)
            found = dataclasses.replace(found, value=value, allowed=each.allowed or found.allowed)
        problems.append(found)
    rest = {name: value for name, value in values.items() if name not in broken}
    return Settings(**nest(Settings, rest)), frozenset(broken)


def _tree(config_file: str | None, given: Variables, problems: list[Problem], texts: Texts) -> Tree:
    if config_file is None:
        return Tree("")
    path = Path(config_file)
    try:
        text = texts.read(path)
    except (OSError, ValueError):
        beside = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        suggestion = str(path.with_name(near)) if near and near != path.name else None
        source = given.source("GATEWAY_CONFIG")
        problems.append(Problem(source, shown(config_file), "the path of a readable YAML file in UTF-8", suggestion))
        return Tree(config_file)
    tree = yaml_tree.parse(text, config_file, given.texts.get, variables.is_secret)
    problems += tree.problems
    return tree
