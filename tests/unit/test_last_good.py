"""Which answers are kept for the time when there is none, for whom, and in how much memory."""

import pytest

from gateway.identity.tenants import Caller
from gateway.proxy.destinations.last_good import LastAnswer, LastGood
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response, parse_fields
from tests.support.tickets import request, ticket

BODY = b"good"


def response(*lines: str) -> Response:
    block = "".join(f"{line}\r\n" for line in ("Date: Sun, 29 Nov 2026 10:00:00 GMT", *lines, "Content-Length: 4"))
    return Response(200, b"OK", 1, parse_fields(block.encode() + b"\r\n"))


def asking(*lines: str, target: bytes = b"/a/x") -> Ticket:
    return ticket(request(target, *lines))


def kept(store: LastGood, of: Ticket, answer: Response, body: bytes = BODY, now: float = 0.0) -> bool:
    before = store.entries
    store.keep(of, answer, answer.head, body, now)
    return store.entries > before


@pytest.fixture
def store() -> LastGood:
    return LastGood(60.0, 100_000)


def test_the_same_request_gets_it(store: LastGood) -> None:
    assert kept(store, asking(), response("X-A: b"))
    found = store.find(asking(), 59.9)
    assert found is not None
    answer = LastAnswer(found, 59, "X-Told: 1\r\n").render(b"id", b"X-More: 2\r\n", 0.0)
    assert answer == (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 10:00:00 GMT\r\nX-A: b\r\nAge: 59\r\nX-Told: 1\r\nContent-Length: 4"
        b"\r\nX-Request-ID: id\r\nX-More: 2\r\n\r\ngood"
    )


def test_it_has_its_time(store: LastGood) -> None:
    assert kept(store, asking(), response())
    assert store.find(asking(), 60.0) is None


def test_the_upstream_may_say_a_shorter_time(store: LastGood) -> None:
    assert kept(store, asking(), response("Cache-Control: max-age=1, stale-if-error=10"))
    assert store.find(asking(), 9.9) is not None
    assert store.find(asking(), 10.0) is None


@pytest.mark.parametrize(
    "lines",
    [
        *(("Cache-Control: no-store",), ("Cache-Control: max-age=60, Private",), ('Cache-Control: private="X-A"',)),
        *(("Cache-Control: no-cache",), ("Cache-Control: must-revalidate",), ("Cache-Control: s-maxage=9",)),
        *(("Cache-Control: max-age=9", "Cache-Control: proxy-revalidate"), ("Pragma: no-cache",)),
        *(
            ("Vary: " + ",".join(f"X-{number}" for number in range(33)),),
            ("Set-Cookie: a=b",),
            ("Vary: *",),
            ("Vary: Accept, *",),
            ("Content-Encoding: gzip",),
        ),
        *(("Vary: X-Forwarded-For",), ("Vary: Accept, X-Consumer",), ("Content-Encoding: gzip", "Vary: Accept")),
    ],
)
def test_answers_that_are_not_kept(lines: tuple[str, ...], store: LastGood) -> None:
    assert not kept(store, asking(), response(*lines))


@pytest.mark.parametrize(
    "lines",
    [
        *(("Cache-Control: max-age=60",), ("Cache-Control: public",), ("Vary: Accept",), ("ETag: x",)),
        *(("Content-Encoding: gzip", "Vary: Accept-Encoding"), ("Content-Encoding: identity",)),
    ],
)
def test_answers_that_are(lines: tuple[str, ...], store: LastGood) -> None:
    assert kept(store, asking(), response(*lines))


@pytest.mark.parametrize("line", ["Cache-Control: no-store", "Range: bytes=0-1"])
def test_requests_whose_answers_are_not_kept(line: str, store: LastGood) -> None:
    assert not kept(store, asking(line), response())


@pytest.mark.parametrize("line", ["Cache-Control: no-cache", "Pragma: no-cache", "Range: bytes=0-1"])
def test_requests_that_get_none(line: str, store: LastGood) -> None:
    assert kept(store, asking(), response())
    assert store.find(asking(line), 1.0) is None


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer x",
        "Cookie: a=b",
        "authorization: Basic x",
        "X-API-Key: x",
        "x-auth-token: x",
        "Session: x",
    ],
)
def test_what_one_client_got_with_credentials_is_no_other_clients(line: str, store: LastGood) -> None:
    assert not kept(store, asking(line), response())
    assert not kept(store, asking(line), response("Cache-Control: max-age=60"))
    assert kept(store, asking(line), response("Cache-Control: public, max-age=60"))
    assert store.find(asking(), 1.0) is not None
    assert store.find(asking(line), 1.0) is not None


def test_nor_does_a_client_with_credentials_get_what_one_without_got(store: LastGood) -> None:
    assert kept(store, asking(), response())
    assert store.find(asking("Cookie: a=b"), 1.0) is None


def test_a_caller_that_the_gateway_knows_is_one_with_credentials(store: LastGood) -> None:
    known = asking()
    known.caller = Caller("web", "", frozenset(), None, ())
    assert not kept(store, known, response())
    assert not kept(store, known, response("Cache-Control: public", "Vary: X-Mail"))
    assert kept(store, known, response("Cache-Control: public", "Vary: Accept"))


def test_variants_are_told_apart(store: LastGood) -> None:
    assert kept(store, asking("Accept: a"), response("Vary: Accept"), b"aaaa")
    assert kept(store, asking("Accept: b"), response("Vary: accept"), b"bbbb")
    for name in (b"a", b"b"):
        found = store.find(asking(f"Accept: {name.decode()}"), 1.0)
        assert found is not None
        assert found.body == name * 4
    assert store.find(asking("Accept: c"), 1.0) is None
    assert store.find(asking(), 1.0) is None


def test_targets_and_hosts_are_told_apart(store: LastGood) -> None:
    assert kept(store, asking(), response())
    assert store.find(asking(target=b"/a/x?q"), 1.0) is None
    assert store.find(asking(target=b"/a/X"), 1.0) is None
    assert store.find(ticket(request(b"http://b/a/x")), 1.0) is None


def test_a_later_answer_replaces_the_one_before(store: LastGood) -> None:
    store.keep(asking(), response(), response().head, b"old!", 0.0)
    store.keep(asking(), response(), response().head, b"new!", 1.0)
    found = store.find(asking(), 2.0)
    assert found is not None
    assert (found.body, store.entries) == (b"new!", 1)


def test_variants_of_one_target_are_bounded(store: LastGood) -> None:
    for number in range(50):
        store.keep(asking(f"Accept: {number}"), response("Vary: Accept"), response().head, BODY, 0.0)
    assert store.entries == 8
    assert store.find(asking("Accept: 49"), 1.0) is not None


def test_memory_is_bounded(store: LastGood) -> None:
    assert not kept(store, asking(), response(), b"x" * 12_501)
    for number in range(200):
        target = b"/a/%d" % number
        store.keep(asking(target=target), response(), response().head, b"x" * 5000, float(number) / 100)
        assert store.size <= 100_000
    assert 10 <= store.entries < 20
    assert store.find(asking(target=b"/a/199"), 2.0) is not None
    assert store.find(asking(target=b"/a/0"), 2.0) is None


def test_what_is_over_is_forgotten(store: LastGood) -> None:
    assert kept(store, asking(), response())
    store.keep(asking(target=b"/b"), response(), response().head, BODY, 61.0)
    assert store.entries == 1


def test_an_answer_without_a_date_gets_one(store: LastGood) -> None:
    undated = Response(200, b"OK", 1, parse_fields(b"Content-Length: 4\r\n\r\n"))
    assert kept(store, asking(), undated)
    found = store.find(asking(), 1.0)
    assert found is not None
    assert found.lines.startswith(b"Date: ")


def test_the_age_that_it_came_with_counts(store: LastGood) -> None:
    assert kept(store, asking(), response("Age: 7"))
    found = store.find(asking(), 1.0)
    assert found is not None
    assert (found.age, b"Age" in found.lines) == (7, False)


def test_bodies_on_their_way_take_as_much_again_at_most(store: LastGood) -> None:
    taken = sum(store.gather(9_000) for _ in range(20))
    assert taken == 11
    assert store.gathered == 99_000
    store.let_go(9_000)
    assert store.gather(9_000)


def test_what_will_not_be_kept_is_not_gathered(store: LastGood) -> None:
    assert store.may_keep(asking(), response())
    assert not store.may_keep(asking(), response("Cache-Control: private"))
    assert not store.may_keep(asking("Authorization: Bearer x"), response())
    assert store.may_keep(asking("Authorization: Bearer x"), response("Cache-Control: public"))
