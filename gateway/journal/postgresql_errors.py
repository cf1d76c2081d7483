"""What PostgreSQL and the way to it say, as the reasons of the journal."""

from typing import Final

import asyncpg

from gateway.journal.port import JournalUnavailable, Trouble

ERRORS: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises when there is no server, no connection any more, or an answer that says no. The last one is what
it makes of a connection that ends in the middle of an exchange."""

# SQLSTATE classes and codes (PostgreSQL documentation, appendix A).
_TROUBLES: Final[dict[str, Trouble]] = {
    "53100": "full",
    "25006": "read_only",
    "42501": "read_only",
    "57014": "timeout",
    "55P03": "locked",
    "40P01": "locked",
    "42P01": "schema",
    "42703": "schema",
    "3F000": "schema",
}
_SENTENCES: Final[dict[Trouble, str]] = {
    "full": "{name} has no space left",
    "read_only": "{name} takes no writes",
    "timeout": "{name} did not answer in time",
    "locked": "{name} has the rows locked",
    "unreachable": "{name} cannot be reached",
}


def trouble(error: BaseException, name: str, *, unsure: bool = False) -> JournalUnavailable:
    """What an error of `ERRORS` comes to. `name` is that of the server; `unsure`: something may have been kept, as far
    as is known without the error."""
    what: Trouble = "failed"
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        # Connection exceptions, too many connections, shutting down, and a password that is refused.
        away = code[:2] in {"08", "28"} or code in {"53300", "57P01", "57P02", "57P03", "57P05", "3D000"}
        what = "unreachable" if away else _TROUBLES.get(code, "failed")
        # An error that the server tells is one that has rolled the transaction back.
        unsure = unsure and away
    elif isinstance(error, TimeoutError):
        what = "timeout"
    elif isinstance(error, ERRORS):
        what = "unreachable"
    sentence = _SENTENCES.get(what, "{name} cannot be used").format(name=name)
    return JournalUnavailable(what, f"{sentence}: {error}" if str(error) else sentence, unsure=unsure)
