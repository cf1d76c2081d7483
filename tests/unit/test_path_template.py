"""Paths that become others by template."""

import pytest

from gateway.syntax.path_template import PathRewrite, TemplateError


@pytest.mark.parametrize(
    ("path", "to", "asked", "made"),
    [
        ("/a", "/b", b"/a", b"/b"),
        ("/a", "/b", b"/a/", None),
        ("/a", "/b", b"/ab", None),
        ("/a/", "/b/", b"/a/", b"/b/"),
        ("/users/{id}", "/v2/{id}/profile", b"/users/7", b"/v2/7/profile"),
        ("/users/{id}", "/v2/{id}", b"/users/", None),
        ("/users/{id}", "/v2/{id}", b"/users/7/8", None),
        ("/users/{id}/files/{rest*}", "/files/{id}/{rest}", b"/users/7/files/a//b", b"/files/7/a//b"),
        ("/users/{id}/files/{rest*}", "/files/{id}/{rest}", b"/users/7/files/", b"/files/7/"),
        ("/{a}/{b}", "/{b}/{a}/{b}", b"/1/2", b"/2/1/2"),
        ("/{all*}", "/x/{all}", b"/", b"/x/"),
        # Byte for byte: nothing is decoded, and nothing of a pattern means anything.
        ("/a.b+c", "/d", b"/a.b+c", b"/d"),
        ("/a.b", "/d", b"/axb", None),
        ("/{id}", "/v/{id}", b"/a%2fb%3F", b"/v/a%2fb%3F"),
        ("/%7Ea", "/b", b"/~a", None),
        ("/{id}", "/v/{id}", b"/\xff\n", b"/v/\xff\n"),
    ],
)
def test_what_becomes_of_a_path(path: str, to: str, asked: bytes, made: bytes | None) -> None:
    assert PathRewrite(path, to).apply(asked) == made


@pytest.mark.parametrize(
    ("path", "to", "about"),
    [
        ("a", "/b", "literal segments"),
        ("", "/b", "literal segments"),
        ("/a//b", "/b", "literal segments"),
        ("/a/../b", "/b", "literal segments"),
        ("/a", "/b/..", "literal segments"),
        ("/a?x", "/b", "literal segments"),
        ("/a", "/b?x", "literal segments"),
        ("/a", "/b c", "literal segments"),
        ("/v{n}", "/b", "literal segments"),
        ("/{1}", "/b", "literal segments"),
        ("/{a}/{a}", "/b", "the name a once"),
        ("/{a*}/b", "/b", "{a*} at the end alone"),
        ("/{a}", "/{b}", "{a}"),
        ("/{a*}", "/{a*}", "{a}"),
        ("/a", "/{b}", "no names"),
    ],
)
def test_templates_that_cannot_be_used(path: str, to: str, about: str) -> None:
    with pytest.raises(TemplateError) as caught:
        PathRewrite(path, to)
    assert about in str(caught.value)
