"""Between the processes of one gateway, the supervisor and its workers: calls, and the words that both sides use."""
