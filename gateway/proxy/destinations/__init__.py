"""Where else the requests of a route go: to several upstreams in shares, a second time, as copies, on to the next."""
