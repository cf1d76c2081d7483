"""Credentials in a URL are not for the log."""

import pytest

from gateway.identity.masking import masked
from tests.support.keys import key

KEY = key("abcdefgh1234")
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        ("/orders/7?x=1", "/orders/7?x=1"),
        (f"/orders?api_key={KEY}&x=1", "/orders?api_key=gw_abcdefgh1234_***&x=1"),
        (f"/orders?a={KEY}&b={KEY}", "/orders?a=gw_abcdefgh1234_***&b=gw_abcdefgh1234_***"),
        (f"/orders/{KEY}", "/orders/gw_abcdefgh1234_***"),
        (f"/orders?api_key={KEY[:-5]}", "/orders?api_key=gw_abcdefgh1234_***"),
        (f"/ws?access_token={TOKEN}&x=1", "/ws?access_token=eyJ***&x=1"),
        (f"/ws?access_token={TOKEN[:-11]}", "/ws?access_token=eyJ***"),
        ("/gw_files/eyJ", "/gw_files/eyJ"),
    ],
)
def test_what_the_log_has_of_a_target(target: str, logged: str) -> None:
    assert masked(target.encode()).decode() == logged
