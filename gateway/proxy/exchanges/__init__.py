"""The life of a request as its client sees it, from its head to the end of the answer."""
