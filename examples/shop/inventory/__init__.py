"""Inventory: the products, and what is reserved of them."""
