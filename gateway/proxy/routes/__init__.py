"""What is known of a route before a request comes, and what follows from the head of a request."""
