"""How a request to the control plane is answered within its share of the event loop's time.

connection   a new connection: polls are answered there, all others wait for their turn
queue        whose turn it is
allowance    a share of the loop's time
time_limit   more time for a request that waits for something
problem      refusals
response     the bytes of an answer
"""
