"""Fields of clients that do not reach an upstream."""

import pytest

from gateway.identity.withheld import withheld
from tests.support.keys import key
from tests.support.tickets import request

KEY = key("abcdefgh1234")
JWT = "eyJhbGciOiJub25lIn0.e30.AAAA"


def lines(*of: str) -> bytes:
    return request(b"/", *of).fields.lines


def without(*of: str, methods: tuple[str, ...] = (), mapped: tuple[str, ...] = (), forward: bool = True) -> list[str]:
    found = withheld("X-API-Key", methods, mapped, forward_token=forward)
    rest = lines(*of) if found is None else found.without(lines(*of))
    return rest.decode().splitlines()


def test_a_route_that_has_nothing_to_withhold_costs_nothing() -> None:
    assert withheld("X-API-Key", ()) is None


@pytest.mark.parametrize(
    ("line", "methods", "forward", "stays"),
    [
        (f"X-API-Key: {KEY}", ("api_key",), True, False),
        ("X-API-Key: the upstream's own", ("api_key",), True, False),
        ("X-API-Key: the upstream's own", ("jwt",), True, True),
        (f"X-API-Key: {KEY}", ("jwt",), True, False),
        (f"x_api.key: {KEY}", ("api_key",), True, False),
        (f"Authorization: Bearer {KEY}", ("jwt",), True, False),
        (f"Authorization: Bearer {JWT}", ("jwt",), True, True),
        (f"Authorization: Bearer {JWT}", ("jwt",), False, False),
        (f"authorization:  bearer   {JWT}", ("api_key", "jwt"), False, False),
        ("Authorization: Bearer", ("jwt",), False, False),
        ("Authorization: Basic dTpw", ("jwt",), False, True),
        ("Authorization: Bearerish x", ("jwt",), False, True),
    ],
)
def test_credentials(line: str, methods: tuple[str, ...], forward: bool, stays: bool) -> None:
    rest = without("Accept: a", line, "Cookie: b", methods=methods, forward=forward)
    assert rest == (["Accept: a", line, "Cookie: b"] if stays else ["Accept: a", "Cookie: b"])


@pytest.mark.parametrize("name", ["X-User-Mail", "x-user-mail", "X_User_Mail", "X.User-MAIL", "x!user~mail"])
@pytest.mark.parametrize("methods", [(), ("jwt",), ("api_key",)])
def test_a_field_that_claims_make_in_every_spelling_on_every_route(name: str, methods: tuple[str, ...]) -> None:
    rest = without("A: b", f"{name}: evil", f"{name}:", "X-User-Mails: c", methods=methods, mapped=("X-User-Mail",))
    assert rest == ["A: b", "X-User-Mails: c"]
