"""The configuration as the supervisor needs to know it: plain data, which it can send, keep and compare.

The first worker of a generation reads the files for all of them, so that the supervisor needs none of the code that a
configuration is made with, and a reload reads with the code that the new workers will run.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from gateway import __version__
from gateway.config import ConfigError, Loaded
from gateway.config.command_line import Given, read_given
from gateway.config.model import GatewayConfig
from gateway.config.problems import MASK
from gateway.config.reading.text_files import Texts
from gateway.config.report.plain import flat
from gateway.config.report.text import summary
from gateway.config.worker_shares import rounded_up
from gateway.ipc.socket_purposes import ADMIN, LISTENER
from gateway.system.cores import workers_for


def read_anew(environ: Mapping[str, str], given: Given) -> tuple[dict[str, Any], Loaded | None]:
    """Read everything now. The facts are `{"problems": [line, …]}` when something is wrong, and nothing else then."""
    texts = Texts()
    try:
        loaded = read_given(environ, given, texts)
    except ConfigError as error:
        return {"problems": str(error).splitlines()}, None
    workers = workers_for(loaded.config.workers.count)
    notices = [str(notice) for notice in (*loaded.notices, *rounded_up(loaded.config, workers))]
    facts = _facts(loaded.config, workers)
    return {"problems": [], **facts, "notices": notices, "texts": texts.seen}, loaded


def read_again(environ: Mapping[str, str], given: Given, texts: Mapping[str, str | None]) -> Loaded:
    """Read what `read_anew` has read, from the texts that it found. Raises `ConfigError`: what the texts name, such as
    certificates, may have gone."""
    return read_given(environ, given, Texts(texts))


def _facts(config: GatewayConfig, workers: int) -> dict[str, Any]:
    server, admin = config.server, config.admin
    settings = dict(_flat(config))
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()
    return {
        "version": __version__,
        "summary": summary(config),
        "hash": digest,
        "settings": settings,
        "workers": workers,
        LISTENER: [server.host, server.port],
        ADMIN: [admin.host, admin.port] if admin.port is not None else None,
        "log_level": config.log.level,
        "log_format": config.log.format,
        "log_dir": config.log.dir,
        "log_retention_days": config.log.retention_days,
        "log_max_file_bytes": config.log.max_file_bytes,
        "stall": config.workers.stall,
        "drain": server.drain_delay + server.drain_timeout,
        "tunnel_drain": server.tunnel_drain,
        "redis": config.redis is not None,
    }


def _flat(config: GatewayConfig) -> Iterator[tuple[str, list[str]]]:
    """Every effective setting by its path: the value as it may be shown, and a digest that tells one value from
    another where it may not."""
    for path, value, secret in flat(config):
        digest = hashlib.sha256(f"{path}={value}".encode()).hexdigest()[:16]
        yield path, [MASK if secret else value, digest]
