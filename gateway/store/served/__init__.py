"""The embedded store: the supervisor serves (`server`) the store in memory to the workers of its host (`client`)."""
