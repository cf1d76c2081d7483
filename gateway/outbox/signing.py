"""The header fields of Standard Webhooks (https://www.standardwebhooks.com), version 1 of its symmetric signatures."""

import base64
import hmac
from collections.abc import Iterable


def signed_lines(message_id: str, timestamp: int, body: bytes, secrets: Iterable[bytes]) -> bytes:
    """Complete header lines. The id is the same for each attempt, so that receivers can drop a repetition; `timestamp`
    is the time of the attempt, in seconds since the epoch. There is a signature for each secret: while a secret is
    being replaced, a receiver can verify every message with the old one or the new one. Without secrets nothing is
    signed."""
    lines = b"webhook-id: %b\r\nwebhook-timestamp: %d\r\n" % (message_id.encode(), timestamp)
    content = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    signatures = [base64.b64encode(hmac.digest(secret, content, "sha256")) for secret in secrets]
    if signatures:
        lines += b"webhook-signature: %b\r\n" % b" ".join(b"v1," + each for each in signatures)
    return lines
