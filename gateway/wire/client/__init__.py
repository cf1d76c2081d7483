"""The side of the upstreams: names, connections, and the pools that keep them."""
