"""Numbers as people read them in a terminal."""


def rate(value: float) -> str:
    """How many a second, in three digits."""
    if value < 10:
        return f"{value:.1f}" if value else "0"
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.1f}k"


def latency(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return "-"
    milliseconds = seconds * 1000
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    return f"{seconds:.1f} s"


def duration(seconds: float) -> str:
    """A time in minutes and seconds, or in hours and minutes."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
