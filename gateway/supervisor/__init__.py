"""The process that owns what must outlive a worker: listening sockets, signals, the embedded store, the sums."""
