"""The constants of leases. All times are in seconds."""

from typing import Final

LEASE_TIME: Final = 0.1
"""How long a lease may be spent."""

GRACE: Final = 0.2
"""How much longer than LEASE_TIME the store keeps a lease booked."""

LEASE_SHARE: Final = 16
"""A lease has at most capacity / LEASE_SHARE tokens."""

HOT: Final = 4
"""A client that is expected to send so many requests within LEASE_TIME gets a lease."""

EXHAUSTED_MEMORY: Final = 1.0
"""How long at most a client is refused from memory."""

RENEW_AT: Final = 0.6
"""The part of LEASE_TIME after which a lease is renewed: late enough to be rare, early enough for an answer to arrive
before the lease ends."""

RETURN_DELAY: Final = 0.01
"""The time between the end of a lease and the moment its unspent tokens are back in the bucket."""

MEMORY: Final = 1.0
"""How long the rate of a client is remembered."""
