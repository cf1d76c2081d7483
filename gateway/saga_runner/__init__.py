"""Carries out the runs of workflows: takes those that are due from the journal, sends their requests, and writes what
came of them. What comes next is decided by `gateway.saga.machine`; what is sent goes the way of every request from the
bulkhead of its upstream on (`gateway.proxy.errands.own_requests`)."""
