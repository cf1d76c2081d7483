import json

import pytest

from gateway.wire.problem import render, retry_after_seconds


@pytest.mark.parametrize(("seconds", "whole"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (29.5, 30)])
def test_retry_after_is_whole_rounded_up_and_at_least_one(seconds: float, whole: int) -> None:
    assert retry_after_seconds(seconds) == whole


def split(raw: bytes) -> tuple[bytes, list[bytes], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    return line, fields, body


def test_one_fact_in_every_place() -> None:
    extra = b"X: y\r\n"
    raw = render("gw", 503, "circuit_open", "the circuit is open", b"r1", retry_after=2.2, extra=extra, close=True)
    line, fields, body = split(raw)
    assert line == b"HTTP/1.1 503 Service Unavailable"
    assert body.endswith(b"}\n")
    assert body.count(b"\n") == 1
    problem = json.loads(body)
    assert problem["status"] == 503
    assert problem["reason"] == "circuit_open"
    assert problem["retry_after"] == 3
    assert problem["request_id"] == "r1"
    assert problem["detail"] == "the circuit is open"
    assert b"Content-Length: %d" % len(body) in fields
    assert b"Retry-After: 3" in fields
    assert b"X-Request-ID: r1" in fields
    assert b"X: y" in fields
    assert b"Connection: close" in fields
    assert b'Proxy-Status: gw; error=destination_unavailable; details="circuit_open"' in fields


def test_head_has_the_fields_and_no_body() -> None:
    _, fields, body = split(render("gw", 404, "not_found", "no route", b"r1", head_only=True))
    assert body == b""
    assert any(field.startswith(b"Content-Length: ") and field != b"Content-Length: 0" for field in fields)
    assert not any(field.startswith((b"Retry-After", b"Connection")) for field in fields)


def test_a_more_precise_error_type() -> None:
    raw = render("gw", 502, "upstream_unreachable", "x", b"r1", error="dns_error")
    assert b'error=dns_error; details="upstream_unreachable"' in raw
