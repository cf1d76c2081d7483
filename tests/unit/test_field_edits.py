"""What becomes of field lines that are changed."""

from gateway.config.sections.headers.model import FieldChanges
from gateway.proxy.field_edits import FieldEdits, edits_of

LINES = b"Accept: a\r\nX-Role: user\r\nx_role: admin\r\nX-Roles: b\r\nSet-Cookie: X-Role: c\r\n"


def test_nothing_changes_nothing() -> None:
    assert edits_of(None) is None
    assert FieldEdits(FieldChanges()).applied(LINES) == LINES


def test_what_is_set_replaces_every_spelling_of_it() -> None:
    edited = FieldEdits(FieldChanges(set=(("X-Role", "guest"),))).applied(LINES)
    assert edited == b"Accept: a\r\nX-Roles: b\r\nSet-Cookie: X-Role: c\r\nX-Role: guest\r\n"


def test_what_is_removed_goes_and_what_is_appended_comes_last() -> None:
    edited = FieldEdits(FieldChanges(("accept", "X-Role"), append=(("X-Roles", "d"), ("X-Roles", "e")))).applied(LINES)
    assert edited == b"X-Roles: b\r\nSet-Cookie: X-Role: c\r\nX-Roles: d\r\nX-Roles: e\r\n"


def test_the_first_line_of_a_head_stays() -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: x\r\n"
    assert FieldEdits(FieldChanges(("Server",))).applied(head) == b"HTTP/1.1 200 OK\r\n"
