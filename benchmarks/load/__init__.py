"""Load generators: closed-loop (wrk), open-loop at a constant rate, single large bodies, idle connections."""
