from dataclasses import dataclass

import pytest

from gateway.proxy.routes.router import Router


@dataclass(frozen=True)
class R:
    prefix: bytes
    host: bytes = b""


ROUTER = Router([R(b"/a"), R(b"/a/b/"), R(b"/a/b/c"), R(b"/x/"), R(b"/", b"h"), R(b"/a", b"h"), R(b"/only", b"g")])


@pytest.mark.parametrize(
    ("host", "path", "prefix"),
    [
        (b"", b"/a", b"/a"),
        (b"", b"/a/", b"/a"),
        (b"", b"/a?x=/a/b/", b"/a"),
        (b"", b"/ab", None),
        (b"", b"/a/b", b"/a"),
        (b"", b"/a/b/", b"/a/b/"),
        (b"", b"/a/b/c", b"/a/b/c"),
        (b"", b"/a/b/cd", b"/a/b/"),
        (b"", b"/a/b/c/d/e/f/g", b"/a/b/c"),
        (b"", b"/a/q/r/s/t/u", b"/a"),
        (b"", b"/x", None),
        (b"", b"/x/", b"/x/"),
        (b"", b"/a%2Fb", None),
        (b"", b"//a", None),
        (b"", b"*", None),
        (b"h", b"/q", b"/"),
        (b"h", b"/a/b/c", b"/a"),
        (b"g", b"/only/1", b"/only"),
        (b"g", b"/a/b/c", b"/a/b/c"),
        (b"other", b"/only", None),
    ],
)
def test_match(host: bytes, path: bytes, prefix: bytes | None) -> None:
    route = ROUTER.match(host, path)
    assert (route.prefix if route else None) == prefix
