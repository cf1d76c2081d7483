"""An operator's commands over the control plane of a running gateway: one file for each.

Nothing here knows the inside of the gateway. A command asks the HTTP API that docs/control-plane.md describes and
prints the answer. Its exit status is for scripts:

    0  as it should be: healthy, done, would be forwarded
    1  not so: not healthy, would be refused, or the gateway refused the order
    2  the command line is wrong
    3  no answer: nothing listens there, or it is no gateway
"""

from gateway.operator.arguments import add_commands, differences

__all__ = ["add_commands", "differences"]
