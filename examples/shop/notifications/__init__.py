"""Notifications: tells customers what has become of their orders, once each."""
