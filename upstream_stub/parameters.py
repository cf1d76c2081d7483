"""Query parameters, checked: a wrong value is a 400 that says what is allowed, never a guess."""

import math

from aiohttp import web


class WrongParameter(web.HTTPBadRequest):
    """Answered as 400 with the message as JSON."""

    def __init__(self, message: str) -> None:
        super().__init__(
            text=web.json_response({"error": message}).text,
            content_type="application/json",
        )


def number(request: web.Request, name: str, default: float, *, low: float = 0.0, high: float = 3600.0) -> float:
    """The finite number called `name`, in [low, high]."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise WrongParameter(f"{name} must be a number from {low:g} to {high:g}, not {text!r}")
    return value


def whole(text: str, name: str, low: int, high: int) -> int:
    """`text` as a decimal integer in [low, high]; `name` is for the message."""
    if text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high:
        return int(text)
    raise WrongParameter(f"{name} must be a whole number from {low} to {high}, not {text!r}")


def integer(request: web.Request, name: str, default: int, *, low: int = 0, high: int) -> int:
    """The whole number called `name`, in [low, high]."""
    text = request.query.get(name)
    return default if text is None else whole(text, name, low, high)


def choice(request: web.Request, name: str, allowed: tuple[str, ...]) -> str:
    """One of `allowed`; the first is the default."""
    text = request.query.get(name, allowed[0])
    if text not in allowed:
        raise WrongParameter(f"{name} must be one of {', '.join(allowed)}, not {text!r}")
    return text
