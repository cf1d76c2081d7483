"""A small shop behind the gateway: orders, payments, inventory, notifications. README.md tells what it shows."""
