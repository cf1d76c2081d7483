"""What a request says about its body."""

import time

import pytest

from gateway.validation.content import content_of


def lines(*fields: str) -> bytes:
    return "".join(f"{field}\r\n" for field in ("Accept: */*", *fields, "X-Content-Type: text/html")).encode("latin-1")


@pytest.mark.parametrize(
    ("fields", "media"),
    [
        (["Content-Type: application/json"], "application/json"),
        (['content-type:Application/JSON ; Charset="UTF-8"'], "application/json"),
        (["Content-Type: application/json;charset=utf8"], "application/json"),
        (["Content-Type: application/vnd.api+json; profile=a"], "application/vnd.api+json"),
        (["Content-Encoding: identity", "Content-Type: text/plain"], "text/plain"),
    ],
)
def test_the_media_type_in_lower_case(fields: list[str], media: str) -> None:
    assert content_of(lines(*fields)) == (media, "", False)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([], "no Content-Type"),
        (["Content_Type: application/json", "Content-Type: application/json"], "more than one"),
        (["Content-Type: application/json", "Content-Type: application/json"], "more than one"),
        (["Content-Type: application/json", "content.type: text/xml"], "more than one"),
        (["Content-Type: json"], "not a media type"),
        (["Content-Type: \x85application/json"], "not a media type"),
        (["Content-Type: application/json, text/html"], "not a media type"),
        (["Content-Type: application/json; charset=utf-16"], "charset"),
        (["Content-Type: application/json; charset=utf-8; charset=utf-7"], "charset"),
        (["Content-Type: application/json; x=" + "y" * 300], "too long"),
        (["Content-Type: application/json", "Content-Encoding: gzip"], "Content-Encoding"),
        (["Content-Encoding: br"], "Content-Encoding"),
        (["Content_Encoding: deflate", "Content-Type: application/json"], "Content-Encoding"),
        (["Content-Encoding: identity, gzip", "Content-Type: application/json"], "Content-Encoding"),
    ],
)
def test_what_cannot_be_understood_is_objected_to(fields: list[str], words: str) -> None:
    assert words in content_of(lines(*fields)).objection


def test_a_long_value_takes_linear_time() -> None:
    began = time.process_time()
    assert content_of(lines("Content-Type: a" + " \t" * 50_000 + "b")).objection == "the Content-Type is too long"
    assert time.process_time() - began < 10
