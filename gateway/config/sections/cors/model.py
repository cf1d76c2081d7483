"""CORS in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CorsConfig:
    """Which pages of other origins may call a route. Without `origins` that is the upstream's business, but for the
    gateway's own refusals: with `public_refusals` any page may read them, without credentials.

    `origins` are as browsers write them, `*` alone is all of them, and `https://*.a.example` all below a name. Empty
    `methods` and `headers` allow what is asked for. `expose` comes on top of the gateway's own fields. `max_age` in
    seconds is how long a preflight's answer may be kept.
    """

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: float = 600.0
    public_refusals: bool = True
