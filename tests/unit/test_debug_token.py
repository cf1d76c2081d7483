"""Who guesses the admin token through the data plane learns nothing."""

from gateway.proxy.filters.debug import WRONG_A_SECOND, DebugToken

TOKEN = "0123456789abcdef"


def test_only_the_token_is_admitted() -> None:
    token = DebugToken(TOKEN, lambda: 100.0)
    assert token.admits(TOKEN.encode())
    assert not token.admits(b"")
    assert not token.admits(b"\xff" * 16)


def test_after_some_wrong_ones_even_the_right_one_waits_for_the_next_second() -> None:
    now = 100.0
    token = DebugToken(TOKEN, lambda: now)
    assert not any(token.admits(b"wrong") for _ in range(WRONG_A_SECOND))
    assert not token.admits(TOKEN.encode())
    now += 0.99
    assert not token.admits(TOKEN.encode())
    now += 0.01
    assert token.admits(TOKEN.encode())
