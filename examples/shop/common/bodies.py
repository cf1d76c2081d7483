"""Reading request bodies: what is not as it must be is refused, with the name of the member."""

from typing import Any

from aiohttp import web

from shop.common.answers import Refused


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body; `Refused` if it is no JSON object."""
    try:
        body = await request.json()
    except ValueError as error:
        raise Refused(400, "not_json", f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refused(422, "invalid", "the body must be a JSON object")
    return body


def text(body: dict[str, Any], name: str) -> str:
    """A member that is text of 1 to 100 characters."""
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 100:
        raise Refused(422, "invalid", f"{name} must be text of 1 to 100 characters")
    return value


def number(body: dict[str, Any], name: str, most: int) -> int:
    """A member that is a whole number from 1 to `most`."""
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Refused(422, "invalid", f"{name} must be a whole number from 1 to {most}")
    return value


def items(body: dict[str, Any]) -> dict[str, int]:
    """The member `items`, such as `[{"sku": "coffee", "quantity": 2}]`, as quantities by product."""
    value = body.get("items")
    if not isinstance(value, list) or not 1 <= len(value) <= 50 or not all(isinstance(each, dict) for each in value):
        raise Refused(422, "invalid", "items must be a list of 1 to 50 objects with sku and quantity")
    found: dict[str, int] = {}
    for each in value:
        sku = text(each, "sku")
        found[sku] = found.get(sku, 0) + number(each, "quantity", 1000)
    return found
