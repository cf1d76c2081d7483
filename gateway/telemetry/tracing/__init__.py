"""Traces: spans made from the records of exchanges, and sent to a collector (OpenTelemetry, OTLP over HTTP).

    Traces.begin ──▶ Trace, filled by the attempts ──▶ Tracer.over ──▶ the queue ──▶ a thread encodes and sends

The path of a request adds to a `Trace`, which is a few plain values. Whether it is exported is decided once, when the
exchange is over. The queue is bounded: beyond it spans are dropped and counted, and nobody waits.
"""
