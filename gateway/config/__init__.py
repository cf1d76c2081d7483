"""Configuration: environment, `.env` and optional YAML to one immutable `GatewayConfig`, or all problems."""

from gateway.config.loading import load
from gateway.config.problems import ConfigError, Problem

__all__ = ["ConfigError", "Problem", "load"]
