"""The way to the upstream and back: attempts, and the only retry loop."""
