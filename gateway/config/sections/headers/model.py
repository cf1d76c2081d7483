"""Changes of header fields in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FieldChanges:
    """Fields of the names in `remove` and in `set` are taken out, in whatever spelling an upstream may take for them.
    Then those of `set` and `append` are added, as (name, value). Values may be secrets."""

    remove: tuple[str, ...] = ()
    set: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    append: tuple[tuple[str, str], ...] = field(default=(), repr=False)
