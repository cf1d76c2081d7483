"""What the control plane sees of the running parts, and what operators order of them.

Each module serves a port of `gateway.control`.
"""
