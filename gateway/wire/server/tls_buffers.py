"""What the TLS connections of a listener keep while they are idle, and how it is bounded.

uvloop and OpenSSL keep buffers for each connection, which grow to the largest read or write and are not given back
while it lives: 64 KiB for what comes from the socket, 107 KiB for what waits to be decrypted, and about as much for
what is written. Nothing of that can be freed from here. So connections whose buffers have grown are counted, and those
that are idle while there are more than `MAX_GROWN` are closed soon. A client that finds its idle connection closed
opens another.

Blocks as large as these must also go back to the system when they are freed. glibc maps them one by one, but by
default only until the first one is freed: from then on it takes them from the heap, where small objects that live
longer keep the pages in between.
"""

import ctypes

# At up to half a MiB each, in the worst case: 128 MiB.
MAX_GROWN = 256
# Seconds for which a grown connection may be idle when there are too many of them.
GROWN_KEEPALIVE = 1.0

_M_MMAP_THRESHOLD = -3  # malloc.h
_THRESHOLD = 32 * 1024  # Below the buffers of TLS. Being set, it is not moved any more.


def map_large_blocks() -> bool:
    """Have malloc go on mapping large blocks one by one: mallopt(3). False where the C library has no such thing."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _THRESHOLD))
    except (AttributeError, OSError):
        return False
