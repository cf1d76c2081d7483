"""Redirects to the upstream's own address become the client's."""

import pytest

from gateway.proxy.filters.redirects import Redirects

# A route that strips /api, in front of an upstream with a base path and two endpoints.
ROUTE = Redirects(["up.internal:8080", "10.0.0.5:8080", "[fd00::5]:8080"], "http", b"/v2", b"/api")


def told(line: str, redirects: Redirects = ROUTE, scheme: str = "https", authority: bytes = b"shop.test") -> str:
    head = f"HTTP/1.1 302 Found\r\nX: 1\r\n{line}\r\nY: http://up.internal:8080/v2/y\r\n".encode()
    lines = redirects.translate(head, scheme, authority).decode().split("\r\n")
    assert (lines[0], lines[1], lines[3]) == ("HTTP/1.1 302 Found", "X: 1", "Y: http://up.internal:8080/v2/y")
    return lines[2]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("http://up.internal:8080/v2/login", "https://shop.test/api/login"),
        ("http://10.0.0.5:8080/v2/login?a=http://x/&b#c", "https://shop.test/api/login?a=http://x/&b#c"),
        ("http://[FD00:0::5]:8080/v2/", "https://shop.test/api/"),
        ("HTTP://UP.internal.:8080/v2", "https://shop.test/api/"),
        ("//up.internal:8080/v2/x", "https://shop.test/api/x"),
        ("http://up.internal:8080/v2/x/../y/.", "https://shop.test/api/x/../y/."),
        # Not below the base path once the dots are resolved, as browsers do it.
        ("http://up.internal:8080/v2/../admin", None),
        ("http://up.internal:8080/v2/x/%2E./.%2e/admin?a", None),
        ("http://up.internal:8080/v2/.\\..\\admin", None),
        # Not below the base path, another port, another host, relative: no place of the client's is meant.
        ("http://up.internal:8080/v2x", None),
        ("http://up.internal:8080/", None),
        ("http://up.internal/v2/x", None),
        ("https://up.internal:8443/v2/x", None),
        ("http://up.internal:8080@evil.test/v2/x", None),
        ("http://up.internal:8080.evil.test/v2/x", None),
        ("http://evil.test/http://up.internal:8080/v2/", None),
        ("/v2/login", None),
        ("login", None),
        ("", None),
    ],
)
def test_locations(theirs: str, ours: str | None) -> None:
    assert told(f"Location: {theirs}") == f"Location: {theirs if ours is None else ours}"
    assert told(f"content-location: {theirs}") == f"content-location: {theirs if ours is None else ours}"


def test_refresh() -> None:
    assert told("Refresh: 5; url=http://10.0.0.5:8080/v2/x") == "Refresh: 5; url=https://shop.test/api/x"
    assert told('refresh: 0;URL="http://10.0.0.5:8080/v2/x"') == 'refresh: 0;URL="https://shop.test/api/x"'
    assert told("Refresh: 5, url = 'http://10.0.0.5:8080/v2/x'") == "Refresh: 5, url = 'https://shop.test/api/x'"
    assert told("Refresh: 0; http://10.0.0.5:8080/v2/x") == "Refresh: 0; https://shop.test/api/x"
    assert told("Refresh: 5") == "Refresh: 5"
    assert told("Refresh: 5; url=/x") == "Refresh: 5; url=/x"


def test_the_scheme_s_own_port_is_the_same_as_none() -> None:
    plain = Redirects(["up.internal:80"], "http", b"", b"")
    assert told("Location: http://up.internal", plain) == "Location: https://shop.test/"
    assert told("Location: http://up.internal:80/x", plain) == "Location: https://shop.test/x"
    assert told("Location: http://up.internal:/x", plain) == "Location: https://shop.test/x"
    assert told("Location: https://up.internal/x", plain) == "Location: https://up.internal/x"


def test_an_upstream_that_knows_the_client_s_authority_is_right_already() -> None:
    same = Redirects(["shop.test:80"], "http", b"", b"/api")
    location = "Location: http://shop.test/api/x"
    assert told(location, same, "http") == location


def test_without_an_authority_the_redirect_is_relative() -> None:
    assert told("Location: http://10.0.0.5:8080/v2/x", authority=b"") == "Location: /api/x"


def test_what_a_proxy_in_front_has_stripped_comes_first() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.5:8080/v2/x\r\n"
    told_outside = ROUTE.translate(head, "https", b"shop.test", b"/outer")
    assert told_outside.endswith(b"\r\nLocation: https://shop.test/outer/api/x\r\n")
