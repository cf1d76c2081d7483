"""The kinds of filters, a file for each. Their contract is in `gateway.proxy.filter`."""
