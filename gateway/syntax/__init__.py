"""How things are written, read in one way wherever they are written: in the configuration, in requests, in hooks, and
on the command line. Everything here is pure and imports nothing of ours."""
