"""What is read of a request, and what is kept with it."""
