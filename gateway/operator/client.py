"""Asks the control plane, over HTTP/1.1 with the standard library.

The token goes out with orders, and with questions that only operators may ask or that were refused without it, and no
redirection is followed. A proxy from the environment is not used: the control plane is asked directly."""

import http
import importlib
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    import http.client

_TIMEOUT = 30.0
# An event comes every second.
_SILENCE = 10.0
_MOST_BYTES = 16 * 1024 * 1024


class NoAnswerError(Exception):
    """The gateway did not answer, or what answered is no gateway."""


class RefusedError(Exception):
    """The gateway answered with a problem (RFC 9457). `str()` is one line for people."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {problem.get('reason', '')}: {problem.get('detail', '')}")
        self.status = status
        self.problem = problem


class Client:
    """`url` is http(s)://host[:port]. `ca_file` replaces the system's authorities, `insecure` trusts any certificate.
    Raises ValueError for another kind of URL."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        operator: str | None = None,
        *,
        ca_file: str | None = None,
        insecure: bool = False,
    ) -> None:
        # It takes longer to import than all the rest of the command line, to which `gateway run` belongs.
        importlib.import_module("http.client")
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise ValueError("http://host[:port] or https://host[:port]")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._base = parts.path.rstrip("/")
        self._host, self._port = parts.hostname, parts.port
        self._tls = _tls(ca_file, insecure=insecure) if parts.scheme == "https" else None
        self._token = token
        self._operator = operator

    def get(self, path: str, /, **query: str | int | None) -> Any:
        """The JSON of the answer. Query parameters that are None are left out. The token goes along only if it is asked
        for (`CONSOLE_AUTH=token`)."""
        target = _with_query(path, query)
        try:
            return self._ask("GET", target, None, {})
        except RefusedError as refused:
            if refused.status != http.HTTPStatus.UNAUTHORIZED or not self._token:
                raise
            return self._ask("GET", target, None, self._as_operator())

    def events(self, path: str) -> Iterator[tuple[str, Any]]:
        """The events of a stream (Server-Sent Events): name and JSON of each. It ends when the gateway ends it."""
        connection = self._connection(_SILENCE)
        try:
            response = self._stream(connection, path, {})
            if response.status == http.HTTPStatus.UNAUTHORIZED and self._token:
                response.read(_MOST_BYTES)
                response = self._stream(connection, path, self._as_operator())
            if response.status != http.HTTPStatus.OK:
                self._understood(response.status, response.read(_MOST_BYTES))
            name = ""
            while line := response.readline(_MOST_BYTES):
                field, _, value = line.decode().rstrip("\r\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise NoAnswerError(f"no answer from {self.url}: {_why(error)}") from error
        finally:
            connection.close()

    def look(self, path: str, /, **query: str | int | None) -> Any:
        """The JSON of an answer that is for operators alone."""
        return self._ask("GET", _with_query(path, query), None, self._as_operator())

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Give an order."""
        headers = self._as_operator()
        if body:
            headers["Content-Type"] = "application/json"
        return self._ask("POST", path, json.dumps(body).encode() if body else None, headers)

    def delete(self, path: str) -> Any:
        """Give an order to end something."""
        return self._ask("DELETE", path, None, self._as_operator())

    def _as_operator(self) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if self._operator:
            headers["X-Operator"] = self._operator
        return headers

    def _ask(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        connection = self._connection(_TIMEOUT)
        try:
            connection.request(method, self._base + target, body, {"Accept": "application/json", **headers})
            response = connection.getresponse()
            raw = response.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswerError(f"no answer from {self.url}: {_why(error)}") from error
        finally:
            connection.close()
        return self._understood(response.status, raw)

    def _stream(
        self, connection: "http.client.HTTPConnection", path: str, headers: Mapping[str, str]
    ) -> "http.client.HTTPResponse":
        connection.request("GET", self._base + path, None, {"Accept": "text/event-stream", **headers})
        return connection.getresponse()

    def _connection(self, timeout: float) -> "http.client.HTTPConnection":
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)

    def _understood(self, status: int, raw: bytes) -> Any:
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if status == http.HTTPStatus.OK and answer is not None:
            return answer
        if status >= http.HTTPStatus.BAD_REQUEST and isinstance(answer, dict) and "reason" in answer:
            raise RefusedError(status, answer)
        raise NoAnswerError(f"{self.url} answers, but not as the control plane of a gateway does (status {status})")


def _with_query(path: str, query: Mapping[str, str | int | None]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _tls(ca_file: str | None, *, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {_TIMEOUT:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); see --ca-file"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
