"""The certificate of a TLS listener, which is renewed while the process runs.

The files are watched (`gateway.system.watched_files`), and a pair that has changed is loaded. A pair that cannot be
used (half written, or a key that does not belong to the certificate) is logged once, and the certificate that was
loaded before goes on being served.

Connections that exist keep what they have; each new handshake asks for `context`.
"""

import asyncio
import calendar
import logging
import re
import ssl
import time
from pathlib import Path
from typing import Final

from gateway.background import Background
from gateway.system.watched_files import INTERVAL, WatchedFiles

log = logging.getLogger("gateway")

_FIRST_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18


class Certificate:
    """`problem` says why the files, as they are now, are not what is served; None while they are."""

    def __init__(self, cert_file: str, key_file: str) -> None:
        """Raises OSError (`ssl.SSLError` is one) when the files cannot be used."""
        self._files = (cert_file, key_file)
        self._watched = WatchedFiles((cert_file, key_file))
        self._context = server_tls(cert_file, key_file)
        self.not_after = not_after(cert_file)
        """When the certificate expires, in seconds since the epoch; None: it does not say so in a way known here."""
        self.problem: str | None = None
        self._background = Background(self._watch, "certificate")

    def context(self) -> ssl.SSLContext:
        """What a new handshake is to use."""
        return self._context

    def start(self) -> None:
        """Watch the files from now on."""
        self._background.start()

    async def stop(self) -> None:
        """Watch no longer."""
        await self._background.stop()

    def check(self) -> None:
        """One look at the files. Blocks for as long as the file system does."""
        if self._watched.changed():
            self._load()

    def _load(self) -> None:
        """Read the files now. Whether that worked is logged, and told by `problem`."""
        cert_file, key_file = self._files
        try:
            context = server_tls(cert_file, key_file)
            expires = not_after(cert_file)
        except OSError as error:
            self.problem = f"the files of the certificate cannot be used: {_why(error)}"
            log.error(  # noqa: TRY400 - a traceback says nothing about a file
                "%s; the certificate that was loaded before is served until %s", self.problem, _date(self.not_after)
            )
            return
        self._context, self.not_after, self.problem = context, expires, None
        log.info("the certificate of the listener was read again; it is valid until %s", _date(expires))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await asyncio.to_thread(self.check)


def server_tls(cert_file: str, key_file: str) -> ssl.SSLContext:
    """TLS as a server, 1.2 and newer, HTTP/1.1 only. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # With a password, be it none, an encrypted key is an error and not a question at the terminal.
    context.load_cert_chain(cert_file, key_file, password="")
    context.set_alpn_protocols(["http/1.1"])
    return context


def not_after(cert_file: str) -> float | None:
    """When the first certificate of a PEM file expires, in seconds since the epoch; None where that cannot be read.
    Raises OSError."""
    found = _FIRST_CERTIFICATE.search(Path(cert_file).read_text(encoding="latin-1"))
    if found is None:
        return None
    try:
        return _expiry(ssl.PEM_cert_to_DER_cert(found[0]))
    except ValueError:
        return None


def _expiry(der: bytes) -> float:
    """RFC 5280 section 4.1: Certificate, TBSCertificate, then version (optional), serial number, signature algorithm,
    issuer, and validity, which is a pair of times."""
    _, start, _ = _element(der, 0)
    _, at, _ = _element(der, start)
    if der[at] == 0xA0:
        at = _element(der, at)[2]
    for _ in range(3):
        at = _element(der, at)[2]
    _, at, _ = _element(der, at)
    _, _, at = _element(der, at)
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if text < "50" else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("the certificate has no time of expiry")
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start of the contents and end of the element at `at`. Raises ValueError."""
    try:
        tag, length, start = der[at], der[at + 1], at + 2
    except IndexError:
        raise ValueError("the certificate is cut off") from None
    if length >= 0x80:
        octets = length & 0x7F
        length = int.from_bytes(der[start : start + octets], "big")
        start += octets
    if start + length > len(der):
        raise ValueError("the certificate is cut off")
    return tag, start, start + length


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM, or not a pair").lower().replace("_", " ")
    return error.strerror or str(error)


def _date(seconds: float | None) -> str:
    if seconds is None:
        return "a time that is not known"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
