"""Side by side with peers: what a request costs here, and what it costs elsewhere, in one run on one machine.

The figure that survives noise is the CPU time of the proxy per completed request, as a ratio to a plain nginx measured
in the same round. The rest (rate, latency, memory) is for orientation. Nothing here is a test, and no test is timed.
"""
