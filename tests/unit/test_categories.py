"""Every refusal and every status belongs to one of the ten categories."""

import pytest

from gateway.reasons import CATEGORIES, REASONS
from gateway.telemetry.services.categories import category_of_reason, category_of_status

# The stable words of docs/behaviour.md.
CONTRACT = {
    "rate_limited": "RateLimit",
    "overloaded": "RateLimit",
    "bulkhead_full": "Dependency",
    "circuit_open": "Dependency",
    "upstream_timeout": "Timeout",
    "upstream_unreachable": "Network",
    "upstream_protocol_error": "Dependency",
    "upstream_truncated": "Network",
    "draining": "InvalidState",
    "bad_request": "Validation",
    "uri_too_long": "Validation",
    "headers_too_large": "Validation",
    "body_too_large": "Validation",
    "request_timeout": "Timeout",
}


def test_there_are_ten() -> None:
    assert len(set(CATEGORIES)) == len(CATEGORIES) == 10


@pytest.mark.parametrize(("reason", "category"), CONTRACT.items())
def test_the_reasons_of_the_contract(reason: str, category: str) -> None:
    assert category_of_reason(reason) == category


def test_every_known_reason_has_one_of_them_and_an_unknown_one_is_unknown() -> None:
    assert {category_of_reason(reason) for reason in REASONS} <= set(CATEGORIES)
    assert category_of_reason("never heard of") == "Unknown"


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (200, "Unknown"),
        (304, "Unknown"),
        (400, "Validation"),
        (401, "Authentication"),
        (403, "Authentication"),
        (404, "Validation"),
        (408, "Timeout"),
        (409, "InvalidState"),
        (422, "Validation"),
        (429, "RateLimit"),
        (499, "Cancellation"),
        (500, "Dependency"),
        (502, "Network"),
        (503, "Dependency"),
        (504, "Timeout"),
        (508, "Configuration"),
        (599, "Dependency"),
        (600, "Unknown"),
    ],
)
def test_the_category_of_a_status(status: int, category: str) -> None:
    assert category_of_status(status) == category
