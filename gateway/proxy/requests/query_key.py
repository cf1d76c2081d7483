"""An API key in the query, where the configuration allows that: read once, and taken out before anything else sees it.

What is planned, logged, traced, validated, kept, copied and forwarded is then a request without the key.
"""

from gateway.identity.credentials import CredentialReader, KeyParameter
from gateway.wire.message.request import Request


class QueryKey:
    """One for all routes with authentication."""

    __slots__ = ("_parameter", "_reader")

    def __init__(self, parameter: KeyParameter, reader: CredentialReader) -> None:
        self._parameter = parameter
        self._reader = reader

    def take(self, request: Request) -> None:
        """Move the key from the target of a request to its credential. A request without the parameter stays."""
        request.target, values = self._parameter.cut(request.target)
        if values:
            request.path = self._parameter.cut(request.path)[0]
            request.credential = self._reader.read(request.fields.lines, values)
