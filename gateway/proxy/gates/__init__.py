"""The kinds of gates, a file for each. Their contract is in `gateway.proxy.gate`."""
