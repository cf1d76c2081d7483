"""TRACE and OPTIONS that may go no further."""

import pytest

from gateway.proxy.answers.own_answer import forwards_left, last_stop, with_forwards
from gateway.wire.message.request import Request
from tests.support.tickets import request


def ask(method: str, *lines: str) -> Request:
    return request(b"/x?y", *lines, method=method)


@pytest.mark.parametrize(
    ("method", "value", "left"),
    [
        ("TRACE", "0", 0),
        ("OPTIONS", "00", 0),
        ("OPTIONS", "3", 3),
        ("OPTIONS", "9" * 5000, 2**31 - 1),
        ("GET", "0", None),
        ("GET", "x", None),
    ],
)
def test_how_often_it_may_be_passed_on(method: str, value: str, left: int | None) -> None:
    assert forwards_left(ask(method, f"Max-Forwards: {value}")) == left
    assert forwards_left(ask(method)) is None


@pytest.mark.parametrize("lines", [["-1"], ["+1"], ["1.5"], ["x"], [""], ["1, 2"], ["3", "3"], ["0x1"]])
def test_what_is_no_number(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="not a number"):
        forwards_left(ask("TRACE", *(f"Max-Forwards: {value}" for value in lines)))


def test_one_less_goes_on_at_its_place() -> None:
    assert with_forwards(b"A: 1\r\nmax-Forwards: 3\r\nB: 3\r\n", 2) == b"A: 1\r\nmax-Forwards: 2\r\nB: 3\r\n"


def test_a_trace_comes_back_without_secrets() -> None:
    kept = ("X-Trace: 1", "Accept: */*", "Max-Forwards: 0")
    secret = ("Authorization: Bearer s3cret", "Cookie: s=s3cret", "X-Api-Key: s3cret", "X-CSRF-Token: s3cret")
    answer = last_stop(ask("TRACE", *kept, *secret, "Proxy-Authorization: Basic s3cret"), "").render(b"id", b"", 0.0)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: message/http\r\n" in head
    assert b"Content-Length: %d\r\n" % len(body) in head
    assert body == b"TRACE /x?y HTTP/1.1\r\nHost: a\r\n" + "\r\n".join((*kept, "", "")).encode()
    assert b"s3cret" not in answer


def test_options_says_what_is_known() -> None:
    answer = last_stop(ask("OPTIONS", "Max-Forwards: 0"), "GET, OPTIONS").render(b"id", b"", 0.0)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Allow: GET, OPTIONS\r\nContent-Length: 0\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")
