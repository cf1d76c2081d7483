"""HTTP/1.1 messages as bytes: heads, fields and chunked bodies, without any connection."""
