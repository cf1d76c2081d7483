import json

from gateway.proxy.answers.problem import Problem

NOW = 1_700_000_000.9


def split(raw: bytes) -> tuple[bytes, list[bytes], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    return line, fields, body


def test_one_fact_in_every_place() -> None:
    refusal = Problem("gw", 503, "circuit_open", "the circuit is open", retry_after=3, extra=b"X: y\r\n")
    line, fields, body = split(refusal.render(b"r1", b"Connection: close\r\n", NOW, False))
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
    assert b"Date: Tue, 14 Nov 2023 22:13:20 GMT" in fields
    assert b'Proxy-Status: gw; error=destination_unavailable; details="circuit_open"' in fields


def test_the_length_is_that_of_the_body_whatever_the_id() -> None:
    refusal = Problem("gw", 404, "not_found", "no route")
    for length in (1, 31, 32, 33, 128):
        _, fields, body = split(refusal.render(b"i" * length, b"", NOW, False))
        assert b"Content-Length: %d" % len(body) in fields
        assert json.loads(body)["request_id"] == "i" * length


def test_head_has_the_fields_and_no_body() -> None:
    refusal = Problem("gw", 404, "not_found", "no route")
    _, fields, body = split(refusal.render(b"r1", b"", NOW, True))
    assert body == b""
    assert fields == split(refusal.render(b"r1", b"", NOW, False))[1]
    assert not any(field.startswith((b"Retry-After", b"Connection")) for field in fields)


def test_a_more_precise_error_type() -> None:
    raw = Problem("gw", 502, "upstream_unreachable", "x", error="dns_error").render(b"r1", b"", NOW, False)
    assert b'error=dns_error; details="upstream_unreachable"' in raw
