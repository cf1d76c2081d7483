"""What the control plane may know about the gateway and what it may order, as protocols, by subject.

Nothing here imports anything of the gateway. Classes in `gateway.views` and `gateway.worker` fill the protocols.
"""
