"""Requests that the gateway sends itself, and that no client waits for."""
