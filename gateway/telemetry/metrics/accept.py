"""The value of an `Accept` field (RFC 9110 section 12.5.1)."""

from collections.abc import Iterator


def media_ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Each media range in small letters, without parameters, and its quality; one that is no number is 0."""
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        yield media, quality
