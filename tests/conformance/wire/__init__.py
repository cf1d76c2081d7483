"""What the gateway does with the bytes of HTTP/1.1, seen from both of its sides: raw client, raw upstream."""
