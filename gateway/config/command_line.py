"""The configuration that a command line asks for: `--env-file` and `--config` on top of the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.config.loading import Loaded, read
from gateway.config.problems import ConfigError, Problem, shown
from gateway.config.reading.text_files import Texts


class Given(NamedTuple):
    """`env_file` None: `.env`, which may be absent. `config_file` None: the one that `GATEWAY_CONFIG` names."""

    env_file: str | None = None
    config_file: str | None = None


def read_given(environ: Mapping[str, str], given: Given, texts: Texts | None = None) -> Loaded:
    """Read it through `texts`. Raises `ConfigError`; a file that was asked for must be there."""
    texts = texts or Texts()
    environ = dict(environ)
    if given.config_file is not None:
        if given.config_file and not Path(given.config_file).is_file():
            raise ConfigError([Problem("--config", shown(given.config_file), "an existing file")])
        environ["GATEWAY_CONFIG"] = given.config_file
    if given.env_file is None:
        return read(environ, texts=texts)
    if not Path(given.env_file).is_file():
        raise ConfigError([Problem("--env-file", shown(given.env_file), "an existing file")])
    return read(environ, Path(given.env_file), texts)
