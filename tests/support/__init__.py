"""What the tests share: real processes, a real Redis, a raw client and a raw upstream. Nothing here is a mock."""
