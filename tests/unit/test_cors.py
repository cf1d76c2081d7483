"""Pages of other origins: what they are told."""

import pytest

from gateway.config.sections.cors.model import CorsConfig
from gateway.proxy.filters.cors import Cors
from gateway.wire.message.request import Request
from tests.support.tickets import request

APP = CorsConfig(origins=("https://app.example", "https://*.apps.example"), credentials=True, expose=("ETag",))


def ask(*lines: str, method: str = "OPTIONS") -> Request:
    return request(b"/x", *lines, method=method)


def answer(cors: Cors, *lines: str, method: str = "OPTIONS") -> dict[str, str] | None:
    """Status and fields of the answer to a preflight."""
    own = cors.preflight(ask(*lines, method=method))
    if own is None:
        return None
    head = own.render(b"id", b"", 0.0).decode().split("\r\n")
    return {"status": head[0].split(" ")[1]} | dict(line.split(": ", 1) for line in head[1:] if line)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (b"https://app.example", True),
        (b"https://a.apps.example", True),
        (b"https://a.b.apps.example", True),
        (b"https://apps.example", False),
        (b"https://.apps.example", False),
        (b"https://evil.example/.apps.example", False),
        (b"https://evil.example:1.apps.example", False),
        (b"http://app.example", False),
        (b"https://app.example.evil.example", False),
        (b"https://app.example:444", False),
        (b"null", False),
        (b"", False),
    ],
)
def test_origins(origin: bytes, allowed: bool) -> None:
    lines = Cors(APP, None).lines(origin)
    assert lines.endswith(b"Vary: Origin\r\n")
    assert (b"Access-Control-Allow-Origin: %b\r\n" % origin in lines) is allowed
    assert (b"Access-Control-Allow-Credentials: true\r\n" in lines) is allowed
    assert (b"Retry-After, RateLimit, " in lines) is allowed
    assert (b", ETag\r\n" in lines) is allowed


def test_caches_hear_that_it_depends_on_the_origin() -> None:
    assert Cors(APP, None).lines(None) == b"Vary: Origin\r\n"


def test_any_origin_has_no_credentials() -> None:
    cors = Cors(CorsConfig(origins=("*",)), None)
    lines = cors.lines(b"https://x.example")
    assert b"Access-Control-Allow-Origin: *\r\n" in lines
    assert b"Credentials" not in lines
    assert cors.lines(None) == b""


def test_a_preflight_is_allowed_what_it_asks_for() -> None:
    asked = ("Origin: https://app.example", "Access-Control-Request-Method: PUT")
    told = answer(Cors(APP, None), *asked, "access-control-request-headers: content-type, x-api-key")
    assert told is not None
    assert told["status"] == "204"
    assert told["Access-Control-Allow-Origin"] == "https://app.example"
    assert told["Access-Control-Allow-Credentials"] == "true"
    assert told["Access-Control-Allow-Methods"] == "PUT"
    assert told["Access-Control-Allow-Headers"] == "content-type, x-api-key"
    assert told["Access-Control-Max-Age"] == "600"
    assert told["Vary"] == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    assert "Content-Length" not in told


def test_a_preflight_is_told_the_route_s_methods_and_the_configured_fields() -> None:
    asked = ("Origin: https://app.example", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-y")
    config = CorsConfig(origins=("https://app.example",), headers=("Content-Type",))
    told = answer(Cors(config, frozenset({"GET", "POST"})), *asked)
    assert told is not None
    assert (told["Access-Control-Allow-Methods"], told["Access-Control-Allow-Headers"]) == ("GET, POST", "Content-Type")


def test_a_preflight_of_another_origin_is_allowed_nothing() -> None:
    told = answer(Cors(APP, None), "Origin: https://evil.example", "Access-Control-Request-Method: PUT")
    assert told is not None
    assert told["status"] == "204"
    assert not [name for name in told if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("OPTIONS", ("Origin: https://app.example",)),
        ("OPTIONS", ("Access-Control-Request-Method: PUT",)),
        ("GET", ("Origin: https://app.example", "Access-Control-Request-Method: PUT")),
    ],
)
def test_what_is_no_preflight(method: str, lines: tuple[str, ...]) -> None:
    assert Cors(APP, None).preflight(ask(*lines, method=method)) is None


def test_two_origins_are_none() -> None:
    assert ask("Origin: https://app.example", "Origin: https://app.example").fields.origin == b""
