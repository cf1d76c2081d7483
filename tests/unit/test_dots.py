"""Which paths have a dot segment for some upstream."""

import pytest

from gateway.proxy.requests.dots import has_dot_segment

ROOT = b"/a/b"


@pytest.mark.parametrize(
    "path",
    [
        *(b"/..", b"/.", b"/../x", b"/./x", b"/x/../../admin", b"/x/.."),
        *(b"/%2e%2e/x", b"/%2E%2e/x", b"/.%2e/x", b"/%2e./x", b"/%2e", b"/%2e/x"),
        *(b"/..%2fx", b"/x%2f..%2fy", b"/x%2F%2e%2e", b"/..%5cx", b"/..\\x", b"/x\\..\\y", b"/x%5c.."),
        *(b"/..;/x", b"/..;x=1/x", b"/.;/x", b"/%2e%2e;/x", b"/..%3b/x", b"/..%3Bx=1/"),
        *(b"/%252e%252e/x", b"/%25252e%2e/x", b"/..%252fx", b"/..%255cx", b"/..%253b/x"),
        *(b"/%c0%ae%c0%ae/x", b"/..%c0%afx", b"/%25c0%25ae/", b"/%e0%80%ae/x", b"/\xc0\xae/x", b"/..\xc0\xafx"),
        *(b"/%f0%80%80%ae./x", b"/.%f8%80%80%80%ae", b"/..%e0%80%afx", b"/..%f0%80%81%9cx", b"/%fc%80%80%80%80%ae/"),
        *(b"/%%32%65%%32%65/x", b"/%2%65%2%65/x", b"/%25%32%65./x", b"/..%%32%66x", b"/%u002e%u002e/x", b"/..%u002Fx"),
        *(b"/%ef%bc%8e%ef%bc%8e/x", b"/%e2%80%a5/x", b"/.%e2%80%a4/", b"/%EF%B9%92/x", b"/\xef\xbc\x8e./x"),
        *(b"/..%ef%bc%8fx", b"/..%e2%88%95x", b"/x%e2%81%84..", b"/..%ef%bc%bcx", b"/%25ef%25bc%258e/"),
        *(b"/%uff0e%uff0e/x", b"/..%u2215x", b"/..%u2216x", b"/..%uFF0Fx", b"/%u2025", b"/%25uff0e./"),
        *(b"/%c0%2e%c0%2e/x", b"/%c0../x", b"/..%c0%2fx", b"/..%c0%5cx"),
        *(b"/..%00", b"/..%00.png", b"/x%00", b"/x%2500", b"/..%23", b"/..%3fx", b"//..//x"),
    ],
)
def test_dot_segments(path: bytes) -> None:
    assert has_dot_segment(ROOT + path)
    assert has_dot_segment(ROOT + path + b"?a=1")


@pytest.mark.parametrize(
    "path",
    [
        *(b"", b"/", b"/x", b"/...", b"/..x", b"/x..", b"/.x", b"/x.", b"/.well-known/x", b"/x.y/z", b"/..."),
        *(b"/.../x", b"/%2e%2e%2e/x", b"/%2ehidden", b"/a%2fb", b"/a%5cb", b"/a\\b", b"/;..", b"/a;..;b/c"),
        *(b"/%20..", b"/..%20", b"/100%", b"/%zz", b"/\xc3\xa4", b"/%c3%a4", b"/%2525", b"/v1.2;x=1.5"),
        *(
            b"/%ef%bc%8e%ef%bc%8e%ef%bc%8e/",
            b"/a%ef%bc%8e/x",
            b"/a%ef%bc%8fb",
            b"/%e2%80%a5a",
            b"/%e2%80%a6",
            b"/%u2026",
        ),
        *(b"/%uD800/x", b"/%u12", b"/%c0x/.x", b"/%ef%bc.x"),
        *(b"/%%32%65x", b"/%u00e4", b"/%u", b"/%25%", b"/%" * 9, b"/%25252525", b"/%e0%81%ae", b"/%c0"),
        *(b"?x=/../y", b"?x=..%2f..%2fetc", b"/x?file=..%2fy", b"/x?/..", b"/x?%00"),
    ],
)
def test_names(path: bytes) -> None:
    assert not has_dot_segment(ROOT + path)


def test_encodings_of_encodings_end() -> None:
    """Each layer costs a walk over the path, so that their number is bounded: nobody needs as many."""
    layers = b"%2e"
    for _ in range(20):
        layers = layers.replace(b"2", b"%32", 1)
    assert has_dot_segment(ROOT + b"/." + layers)
    assert not has_dot_segment(ROOT + b"/%" + b"25" * 4000)
