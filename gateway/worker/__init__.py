"""A process that serves requests: it is told by its supervisor what to read, what to listen on and when to end."""
