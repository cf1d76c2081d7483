from ipaddress import ip_network

import pytest

from gateway.proxy.requests.identity import Identification
from gateway.syntax.hosts import client_key
from gateway.wire.message.fields import parse_request_fields

WHO = Identification([ip_network("10.0.0.0/8"), ip_network("fd00::/8")], "edge")


def forwarded(*lines: str, peer: str = "10.0.0.1") -> tuple[str, bytes, bytes]:
    block = "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"
    origin = WHO.forwarded(peer, "http", parse_request_fields(block, 100))
    return origin.client, origin.lines(1), origin.host


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("", "10.0.0.1"),
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.9.9.9", "1.2.3.4"),
        ("10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("[2001:db8:1:2::5]:80", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("1.2.3.4, nonsense", "10.0.0.1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        (" , 1.2.3.4 , ", "1.2.3.4"),
    ],
)
def test_right_to_left_to_the_first_untrusted(value: str, client: str) -> None:
    assert forwarded(f"X-Forwarded-For: {value}")[0] == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=1.2.3.4", "1.2.3.4"),
        ('for=6.6.6.6, For="[2001:db8:1:2::5]:80";proto=https', "2001:db8:1:2::/64"),
        ("for=1.2.3.4;for=6.6.6.6", "10.0.0.1"),
        ('for=1.2.3.4;host="a, for=6.6.6.6"', "1.2.3.4"),
        ('for=1.2.3.4;host="a;for=6.6.6.6"', "1.2.3.4"),
        ('for=1.2.3.4;host="a\\", for=6.6.6.6"', "1.2.3.4"),
        ('for="1.2.3.4, for=6.6.6.6"', "10.0.0.1"),
        # A client has opened a quote, and the proxy has appended what it knows.
        ('for="6.6.6.6, for=1.2.3.4', "1.2.3.4"),
        ('host="\\, for="1.2.3.4:80"', "1.2.3.4"),
    ],
)
def test_commas_and_semicolons_in_quotes_separate_no_hops(value: str, client: str) -> None:
    """RFC 7239 section 4."""
    assert forwarded(f"Forwarded: {value}")[0] == client


def test_several_fields_are_one_list() -> None:
    assert forwarded("X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2, 10.0.0.9")[0] == "2.2.2.2"


def test_the_upstream_hears_of_every_hop() -> None:
    _, lines, host = forwarded("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: a.b")
    told = b"X-Forwarded-For: 1.1.1.1, 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.1.1.1\r\n"
    assert lines == told + b"Via: 1.1 edge\r\n"
    assert host == b"a.b"


def test_an_empty_scheme_of_a_trusted_proxy_is_none() -> None:
    assert b"X-Forwarded-Proto: http\r\n" in forwarded("X-Forwarded-Proto:")[1]


def test_trust() -> None:
    assert WHO.is_trusted("10.1.1.1")
    assert WHO.is_trusted("::ffff:10.1.1.1")
    assert WHO.is_trusted("fd00::1")
    assert not WHO.is_trusted("11.0.0.1")
    assert not WHO.is_trusted("")
    assert not Identification([], "edge").is_trusted("10.0.0.1")


def test_direct() -> None:
    origin = WHO.direct("192.0.2.7", "https")
    assert origin.client == "192.0.2.7"
    told = b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 192.0.2.7\r\n"
    assert origin.lines(1) == told + b"Via: 1.1 edge\r\n"


def test_via_has_the_version_of_the_request() -> None:
    """RFC 9110 section 7.6.3: that of the message which was received."""
    assert WHO.direct("192.0.2.7", "https").lines(0).endswith(b"Via: 1.0 edge\r\n")


@pytest.mark.parametrize(
    ("via", "loop"),
    [
        ([b"1.1 edge"], True),
        ([b"1.0 a, HTTP/1.1 EDGE (x)"], True),
        ([b"1.1 edge-2", b"1.1 edges"], False),
        ([b"edge"], False),
        ([b"1.1 a (edge)"], False),
        ([], False),
    ],
)
def test_loops(via: list[bytes], loop: bool) -> None:
    assert WHO.is_loop(via) is loop


@pytest.mark.parametrize(
    ("address", "key"),
    [("1.2.3.4", "1.2.3.4"), ("2001:db8::1", "2001:db8::/64"), ("fe80::1%eth0", "fe80::/64"), ("", "unknown")],
)
def test_client_keys(address: str, key: str) -> None:
    assert client_key(address) == key
