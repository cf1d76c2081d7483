"""The side of the clients: listening, accepting, and the connections on which requests arrive."""
