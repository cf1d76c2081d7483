"""The adaptive limit before upstreams that exist only as numbers, on a clock that is one, too.

    python -m benchmarks.simulation        # a table; and the charts of docs/overload.md, written anew

`upstream` has the model, `scenarios` what happens in it, `draw` the charts. The policies are the gateway's own.
"""
