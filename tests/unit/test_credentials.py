"""What a request shows to prove who sends it."""

import pytest

from gateway.identity.credentials import KEY, MALFORMED, NOTHING, SEVERAL, TOKEN, CredentialReader, KeyParameter, Kind
from gateway.identity.withheld import withheld
from tests.support.keys import key, sha256
from tests.support.tickets import request

READER = CredentialReader("X-API-Key")
GOOD = key("abcdefgh1234")
JWT = "eyJhbGciOiJub25lIn0.e30."


def lines(*of: str) -> bytes:
    return request(b"/", *of).fields.lines


@pytest.mark.parametrize(
    ("of", "kind"),
    [
        ([], NOTHING),
        ([f"X-API-Key: {GOOD}"], KEY),
        ([f"x-api-key:   {GOOD} "], KEY),
        ([f"Authorization: Bearer {GOOD}"], KEY),
        ([f"authorization: bEARER  {GOOD}"], KEY),
        # One that is empty says nothing, like a variable that was not set.
        (["X-API-Key:"], NOTHING),
        (["Authorization: Bearer"], NOTHING),
        (["Authorization: Bearer "], NOTHING),
        (["Authorization:"], NOTHING),
        # Another scheme is the upstream's business.
        (["Authorization: Basic dTpw"], NOTHING),
        (["Authorization: Basic dTpw", f"X-API-Key: {GOOD}"], KEY),
        ([f"Authorization: Bearer {JWT}", f"X-API-Key: {GOOD}"], KEY),
        ([f"Authorization: Bearer {JWT}"], TOKEN),
        ([f"Authorization: Bearer {JWT}"] * 2, SEVERAL),
        (["Authorization: Bearer a, Bearer b"], TOKEN),
        # Which of two counts would be a matter of opinion.
        ([f"Authorization: Bearer {GOOD}", f"X-API-Key: {GOOD}"], SEVERAL),
        ([f"X-API-Key: {GOOD}", f"X-API-Key: {GOOD}"], SEVERAL),
        ([f"X-API-Key: {GOOD}", "X-API-Key:"], SEVERAL),
        (["Authorization: Basic dTpw", f"Authorization: Bearer {GOOD}"], SEVERAL),
        ([f"X-API-Key: {GOOD}, {GOOD}"], MALFORMED),
        ([f"X-API-Key: {GOOD[:-1]}"], MALFORMED),
        ([f"X-API-Key: {GOOD}A"], MALFORMED),
        ([f"X-API-Key: {GOOD.upper()}"], MALFORMED),
        (["X-API-Key: gw_short_" + "A" * 43], MALFORMED),
        (["X-API-Key: gw_abcdefgh1234_" + "A" * 42 + "*"], MALFORMED),
        (["X-API-Key: " + "gw_" * 2000], MALFORMED),
        # The twin of a name is another name (and the gateway's upstreams never get it for the real one).
        ([f"X_API_Key: {GOOD}"], NOTHING),
    ],
)
def test_what_is_shown(of: list[str], kind: Kind) -> None:
    assert READER.read(lines(*of)).kind is kind


def test_a_key_has_its_id_and_the_digest_of_all_of_it_and_no_repr_that_shows_it() -> None:
    shown = READER.read(lines(f"X-API-Key: {GOOD}"))
    assert (shown.key_id, shown.digest.hex()) == ("abcdefgh1234", sha256(GOOD))
    assert "AAAA" not in repr(shown)


def test_the_header_has_the_name_that_is_configured_and_no_other() -> None:
    reader = CredentialReader("X-Client.Key")
    assert reader.read(lines(f"X-Client.Key: {GOOD}")).kind is KEY
    assert reader.read(lines(f"X-ClientxKey: {GOOD}")).kind is NOTHING
    assert reader.read(lines(f"X-API-Key: {GOOD}")).kind is NOTHING


def test_authorization_may_be_the_only_field() -> None:
    reader = CredentialReader("Authorization")
    assert reader.read(lines(f"Authorization: Bearer {GOOD}")).kind is KEY


@pytest.mark.parametrize(
    "of", [f"X-API-Key: {GOOD}", "x-api-key: x", f"Authorization: Bearer {GOOD}", "authorization:bearer gw_x"]
)
def test_keys_do_not_go_on_and_everything_else_does(of: str) -> None:
    rest = ["Accept: a", "Authorization-Info: x", "Cookie: gw_a"]
    keys = withheld("X-API-Key", ("api_key",))
    assert keys is not None
    assert keys.without(lines(rest[0], of, *rest[1:])) == lines(*rest)
    for foreign in (f"Authorization: Bearer {JWT}", "Authorization: Basic dTpw"):
        assert keys.without(lines(foreign)) == lines(foreign)


@pytest.mark.parametrize(
    ("values", "of", "kind"),
    [
        ([GOOD], [], KEY),
        ([GOOD], [f"Authorization: Bearer {JWT}"], KEY),
        ([GOOD], ["X-API-Key:"], KEY),
        ([GOOD[:-1]], [], MALFORMED),
        ([JWT], [], MALFORMED),
        ([""], [], NOTHING),
        ([GOOD, GOOD], [], SEVERAL),
        ([GOOD, ""], [], SEVERAL),
        ([GOOD], [f"X-API-Key: {GOOD}"], SEVERAL),
        ([GOOD], [f"Authorization: Bearer {GOOD}"], SEVERAL),
        ([GOOD], ["X-API-Key:", "X-API-Key:"], SEVERAL),
    ],
)
def test_what_the_query_shows_counts_like_what_is_in_the_field_for_keys(
    values: list[str], of: list[str], kind: Kind
) -> None:
    shown = READER.read(lines(*of), [value.encode() for value in values])
    assert shown.kind is kind
    assert (shown.text == GOOD.encode()) == (kind is KEY)


@pytest.mark.parametrize(
    ("target", "rest", "values"),
    [
        (b"/a?api_key=K", b"/a", [b"K"]),
        (b"/a?api_key=K&x=%41&y", b"/a?x=%41&y", [b"K"]),
        (b"/a?x=1&api_key=K", b"/a?x=1", [b"K"]),
        (b"/a?x=1&api_key=K&y=2?3", b"/a?x=1&y=2?3", [b"K"]),
        (b"/a?api_key=K&api_key=L&api_key", b"/a", [b"K", b"L", b""]),
        (b"/a?&api_key=K&&", b"/a?&&", [b"K"]),
        (b"http://h/a?api_key=K", b"http://h/a", [b"K"]),
        # Every spelling that an upstream could read as the name.
        (b"/a?API_Key=K", b"/a", [b"K"]),
        (b"/a?%61pi%5Fke%59=K", b"/a", [b"K"]),
        (b"/a?api_key=a=b", b"/a", [b"a=b"]),
        # Other names.
        (b"/a", b"/a", []),
        (b"/a?", b"/a?", []),
        (b"/a/api_key=K", b"/a/api_key=K", []),
        (b"/a?my_api_key=K&api_keys=L&api.key=M", b"/a?my_api_key=K&api_keys=L&api.key=M", []),
    ],
)
def test_the_parameter_is_taken_out_of_a_target_and_the_rest_stays(
    target: bytes, rest: bytes, values: list[bytes]
) -> None:
    assert KeyParameter("api_key").cut(target) == (rest, values)


def test_a_long_query_is_searched_in_linear_time() -> None:
    found = KeyParameter("aaaa")
    assert found.cut(b"/?" + b"&" * 1_000_000) == (b"/?" + b"&" * 1_000_000, [])
    assert found.cut(b"/?" + b"a" * 1_000_000)[1] == []


def test_a_referer_with_a_key_does_not_go_on_where_keys_may_be_in_urls() -> None:
    of = lines(f"Referer: https://a/x?api_key={GOOD}", "X: 1")
    kept = withheld("X-API-Key", ["api_key"], in_query=True)
    assert kept is not None
    assert kept.without(of) == lines("X: 1")
    plain = lines("Referer: https://a/x?page=2")
    assert kept.without(plain) == plain
