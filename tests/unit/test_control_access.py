"""Who may change something."""

import logging

import pytest
from multidict import CIMultiDict

from gateway.control.access import BURST, MAX_PEERS, TRY_EVERY, Access, Actor, peer_of
from gateway.control.serving.problem import RefusalError

TOKEN = "0123456789abcdef"
LOCAL = {"Host": "localhost:5000"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(access: Access, peer: str, headers: dict[str, str]) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        access.admit(peer, CIMultiDict(headers))
    return caught.value


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_admits_from_anywhere(scheme: str) -> None:
    headers = CIMultiDict({"authorization": f"{scheme} {TOKEN}", "Via": "1.1 proxy", "Host": "evil.example"})
    assert Access(TOKEN).admit("203.0.113.5", headers) == Actor("token", "203.0.113.5")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "unauthorized"),
        ({"Authorization": TOKEN}, "unauthorized"),
        ({"Authorization": "Bearer "}, "unauthorized"),
        ({"Authorization": f"Basic {TOKEN}"}, "unauthorized"),
        ({"Authorization": f"Bearer {TOKEN}x"}, "invalid_token"),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, "invalid_token"),
        ({"Authorization": "Bearer \udcff\u20ac"}, "invalid_token"),
    ],
)
def test_anything_else_is_a_401_even_from_loopback(headers: dict[str, str], reason: str) -> None:
    answer = refused(Access(TOKEN), "127.0.0.1", LOCAL | headers)
    assert (answer.status, answer.reason or "unauthorized") == (401, reason)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert TOKEN not in answer.detail


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_without_a_token_loopback_may(peer: str, host: str) -> None:
    assert Access(None).admit(peer, CIMultiDict({"Host": host})) == Actor("loopback", peer)


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "::2", "::ffff:10.0.0.1", "", "unix"])
def test_without_a_token_nobody_else_may(peer: str) -> None:
    answer = refused(Access(None), peer, LOCAL)
    assert answer.status == 403
    assert "ADMIN_TOKEN" in answer.detail


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For", "x-forwarded-host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-FORWARDED", "Forwarded",
        "Via", "X-Real-IP", "X-Client-IP", "True-Client-IP", "cf-connecting-ip", "CDN-Loop",
        "X_Forwarded_For", "x_real-ip", "CF_Connecting_IP", "CDN_Loop",
    ],
)  # fmt: skip
def test_what_came_through_a_proxy_may_not(name: str) -> None:
    assert refused(Access(None), "127.0.0.1", LOCAL | {name: "127.0.0.1"}).status == 403


def test_http_1_0_may_not_which_is_what_nginx_speaks() -> None:
    headers = CIMultiDict(LOCAL)
    with pytest.raises(RefusalError) as caught:
        Access(None).admit("127.0.0.1", headers, version=(1, 0))
    assert caught.value.status == 403
    headers["Authorization"] = f"Bearer {TOKEN}"
    assert Access(TOKEN).admit("127.0.0.1", headers, version=(1, 0)).by == "token"


def test_in_production_nobody_may_without_a_token() -> None:
    access = Access(None, production=True)
    answer = refused(access, "127.0.0.1", LOCAL)
    assert answer.status == 403
    assert "ADMIN_TOKEN" in answer.detail
    headers = CIMultiDict({"Authorization": f"Bearer {TOKEN}"})
    assert Access(TOKEN, production=True).admit("127.0.0.1", headers).by == "token"


@pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "[::"])
def test_a_name_that_was_rebound_to_loopback_may_not(host: str) -> None:
    assert refused(Access(None), "127.0.0.1", {"Host": host}).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8080"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_may_not(headers: dict[str, str]) -> None:
    assert refused(Access(None), "127.0.0.1", LOCAL | headers).status == 403


@pytest.mark.parametrize("second", [TOKEN, "wrong"])
def test_two_credentials_are_none_whatever_they_are(second: str) -> None:
    headers = CIMultiDict([("Authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {second}")])
    with pytest.raises(RefusalError, match="more than once") as caught:
        Access(TOKEN).admit("203.0.113.5", headers)
    assert caught.value.status == 401
    assert 'error="invalid_request"' in caught.value.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Origin", ("http://localhost:5000", "https://evil.example")),
        ("Sec-Fetch-Site", ("same-origin", "cross-site")),
        ("Host", ("localhost:5000", "evil.example")),
    ],
)
def test_where_it_comes_from_is_said_once(name: str, values: tuple[str, str]) -> None:
    headers = CIMultiDict([*LOCAL.items(), *((name, value) for value in values)])
    with pytest.raises(RefusalError, match="more than once") as caught:
        Access(None).admit("127.0.0.1", headers)
    assert caught.value.status == 403


def test_a_host_in_the_request_line_counts_more_than_the_field_and_may_not() -> None:
    with pytest.raises(RefusalError, match="in the request line"):
        Access(None).admit("127.0.0.1", CIMultiDict(LOCAL), target="http://evil.example/api/admin/reload")


def test_a_page_of_our_own_may() -> None:
    headers = LOCAL | {"Origin": "http://localhost:5000", "Sec-Fetch-Site": "same-origin"}
    assert Access(None).admit("127.0.0.1", CIMultiDict(headers)).by == "loopback"


@pytest.mark.parametrize(
    ("remote", "peer"), [("::ffff:127.0.0.1", "127.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1"), (None, "")]
)
def test_a_mapped_address_is_one_of_ipv4(remote: str | None, peer: str) -> None:
    assert peer_of(remote) == peer


def test_failures_use_up_the_tries_of_their_peer(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    access = Access(TOKEN, clock)
    good = CIMultiDict({"Authorization": f"Bearer {TOKEN}"})
    with caplog.at_level(logging.WARNING, "gateway.audit"):
        assert [refused(access, "203.0.113.5", {}).status for _ in range(BURST)] == [401] * BURST
        late = [refused(access, "203.0.113.5", {"Authorization": "Bearer guess"}) for _ in range(50)]
    assert {answer.status for answer in late} == {429}
    assert late[0].retry_after == pytest.approx(TRY_EVERY)
    # Logged as long as there were tries, with nothing of the token.
    assert len(caplog.records) == BURST
    assert TOKEN not in caplog.text
    # Nobody locks the operator out, from behind the same address or another.
    assert access.admit("203.0.113.5", good).by == "token"
    assert access.admit("203.0.113.6", good).by == "token"
    clock.now += TRY_EVERY
    assert [refused(access, "203.0.113.5", {}).status for _ in range(2)] == [401, 429]


def test_a_refusal_by_place_is_not_throttled_and_bounded_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    access = Access(None, Clock())
    with caplog.at_level(logging.WARNING, "gateway.audit"):
        assert {refused(access, "127.0.0.1", LOCAL | {"Via": "1.1 x"}).status for _ in range(5 * BURST)} == {403}
    assert len(caplog.records) == BURST
    assert "Further attempts" in caplog.records[-1].getMessage()
    assert access.admit("127.0.0.1", CIMultiDict(LOCAL)).by == "loopback"


def test_success_costs_no_try() -> None:
    access = Access(TOKEN, Clock())
    for _ in range(10 * BURST):
        access.admit("203.0.113.5", CIMultiDict({"Authorization": f"Bearer {TOKEN}"}))


def test_an_ipv6_host_is_one_peer_whatever_its_address() -> None:
    access = Access(TOKEN, Clock())
    statuses = [refused(access, f"2001:db8::{index:x}", {}).status for index in range(BURST + 1)]
    assert statuses == [401] * BURST + [429]


def test_the_table_of_peers_is_bounded() -> None:
    access = Access(TOKEN, Clock())
    for index in range(MAX_PEERS + 100):
        refused(access, f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}", {})
    assert len(access._tries) == MAX_PEERS
