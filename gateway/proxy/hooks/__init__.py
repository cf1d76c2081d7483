"""Python hooks on their way: what they are shown, what they may change, and what becomes of one that fails."""
