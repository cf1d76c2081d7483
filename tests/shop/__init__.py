"""The shop of examples/shop: real processes, real databases, and what must agree whatever is killed."""
