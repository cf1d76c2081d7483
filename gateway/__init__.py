"""A resilient API gateway: limits, sheds, breaks, retries, and says why."""

__version__ = "0.1.0"
