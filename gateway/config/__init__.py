"""Configuration: environment, `.env` and optional YAML to one immutable `GatewayConfig`, or all problems."""

from gateway.config.loading import Loaded, load, read
from gateway.config.problems import ConfigError, Notice, Problem

__all__ = ["ConfigError", "Loaded", "Notice", "Problem", "load", "read"]
