"""Payments: charges an order once, and takes it back."""
