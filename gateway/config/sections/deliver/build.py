"""From the settings of the outbox to what they mean, and what is wrong with them."""

import base64
import binascii
from pathlib import Path
from typing import Final

from gateway.config.building.place import Place
from gateway.config.sections.deliver.model import METHODS, DeliverConfig, OutboxLimits
from gateway.config.sections.deliver.settings import Deliver, Outbox

_HOUR = 3600.0
_PREFIX: Final = "whsec_"
# Standard Webhooks wants 24 to 64 bytes.
_SHORTEST, _LONGEST = 24, 64
_SECRETS_ALLOWED = f"a file with one secret a line, {_PREFIX} and {_SHORTEST} to {_LONGEST} bytes in base64"
_MOST_BYTES: Final = 65_536


def deliver_config(deliver: Deliver, place: Place) -> DeliverConfig | None:
    """The domain type of a route, None where requests go to the upstream at once. What is wrong with the file of
    secrets is reported."""
    if not deliver.enabled:
        return None
    return DeliverConfig(
        schedule=tuple(deliver.schedule),
        jitter=deliver.jitter,
        timeout=deliver.timeout,
        concurrency=deliver.concurrency,
        order_by=deliver.order_by,
        max_message_bytes=deliver.max_message_bytes,
        secrets=() if deliver.secret_file is None else _secrets(deliver.secret_file, place),
    )


def delivered_methods(methods: frozenset[str] | None, place: Place) -> frozenset[str]:
    """The methods of a route with `deliver`; one whose answer cannot wait is reported."""
    wrong = sorted((methods or frozenset()) - METHODS)
    if wrong:
        place.report(("methods",), wrong[0], f"{', '.join(sorted(METHODS))} on a route with deliver")
    return METHODS if methods is None else methods


def outbox_config(section: Outbox) -> OutboxLimits:
    """The domain type."""
    return OutboxLimits(
        section.max_pending, section.max_bytes, section.delivered_retention * _HOUR, section.dead_retention * _HOUR
    )


def _secrets(file: str, place: Place) -> tuple[bytes, ...]:
    try:
        with Path(file).open(encoding="ascii") as lines:
            found = tuple(_secret(line) for line in lines.read(_MOST_BYTES).split())
    except (OSError, ValueError):
        found = ()
    if not found:
        # Where somebody writes the secret in place of the path it must not be shown.
        place.report(("secret_file",), "***", _SECRETS_ALLOWED)
    return found


def _secret(text: str) -> bytes:
    """Raises ValueError for what is none."""
    if not text.startswith(_PREFIX):
        raise ValueError("no secret")
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("no secret") from error
    if not _SHORTEST <= len(secret) <= _LONGEST:
        raise ValueError("no secret")
    return secret
