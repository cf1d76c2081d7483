"""What is held of a request body, and whether it can be sent again."""

from gateway.proxy.requests.body import RequestBody


def arrived(body: RequestBody, *pieces: bytes) -> RequestBody:
    for piece in pieces:
        body.received += len(piece)
        body.hold(piece)
    return body


def test_what_fits_is_kept_for_a_repetition() -> None:
    body = arrived(RequestBody(4), b"ab", b"cd")
    body.sent()
    assert (body.held, body.replayable) == ([b"ab", b"cd"], True)


def test_what_does_not_fit_is_let_go_and_cannot_be_repeated() -> None:
    body = arrived(RequestBody(4), b"ab", b"cde")
    body.sent()
    assert (body.held, body.replayable) == ([], False)


def test_pieces_that_pass_are_kept_until_they_are_too_many() -> None:
    body = RequestBody(3)
    for piece in (b"ab", b"c"):
        body.received += len(piece)
        body.pass_on(piece)
    assert body.held == [b"ab", b"c"]
    body.received += 1
    body.pass_on(b"d")
    assert (body.held, body.replayable) == ([], False)


def test_collecting_gives_the_whole_body_once_it_is_there() -> None:
    told: list[bytes | None] = []
    body = RequestBody(0)
    body.collect(10, told.append)
    arrived(body, b"ab", b"cd")
    assert (told, body.collecting) == ([], True)
    body.end()
    assert (told, body.collecting) == ([b"abcd"], False)
    body.sent()
    assert body.replayable


def test_collecting_gives_up_as_soon_as_the_body_is_too_large() -> None:
    told: list[bytes | None] = []
    body = RequestBody(0)
    body.collect(3, told.append)
    arrived(body, b"ab", b"cd", b"ef")
    body.end()
    assert told == [None]


def test_collecting_a_body_that_is_there_answers_at_once() -> None:
    told: list[bytes | None] = []
    body = arrived(RequestBody(0), b"abc")
    body.end()
    body.collect(3, told.append)
    body.collect(2, told.append)
    assert told == [b"abc", None]


def test_an_exchange_that_is_over_is_told_nothing() -> None:
    told: list[bytes | None] = []
    body = arrived(RequestBody(0), b"a")
    body.collect(3, told.append)
    body.forget()
    body.end()
    assert (told, body.held) == ([], [])
