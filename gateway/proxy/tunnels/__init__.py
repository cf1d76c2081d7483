"""The WebSocket tunnels of a route, and what the log says of them."""
