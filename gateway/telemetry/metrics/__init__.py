"""What is counted, and how a scrape reads it.

cells, route_cells   what the path of a request writes
catalogue            every metric, by the name that dashboards and alerts know
process_stats        the usual metrics of a process
snapshot             what a worker has counted as plain data, and that of several workers as one
exposition           families as text; accept: in which format
collector            the same families for users of `prometheus_client`
"""
