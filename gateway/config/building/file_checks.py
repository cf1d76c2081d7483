"""Files and directories that settings name: they are there, and are what they must be."""

import ssl
import tempfile
from pathlib import Path

from gateway.config.building.place import Place, Steps


def check_certificate(cert: tuple[str | None, Steps], key: tuple[str | None, Steps], place: Place) -> None:
    """A certificate chain and its private key: both or none, and they load."""
    (cert_file, cert_path), (key_file, key_path) = cert, key
    if cert_file is None and key_file is None:
        return
    if cert_file is None or key_file is None:
        there, missing = (cert_path, key_path) if key_file is None else (key_path, cert_path)
        place.report(there, cert_file or key_file, f"only together with {place.name(missing)}")
        return
    if not (_readable(cert_file, cert_path, place) and _readable(key_file, key_path, place)):
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert_file, key_file, password=lambda: b"")
    except (OSError, ValueError):
        place.report(
            cert_path, cert_file, f"a PEM certificate that goes with the unencrypted PEM key in {place.name(key_path)}"
        )


def check_authorities(file: str | None, path: Steps, place: Place) -> None:
    """A bundle of CA certificates: it loads and is not empty."""
    if file is None or not _readable(file, path, place):
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=file)
    except (OSError, ValueError):
        place.report(path, file, "a file of CA certificates in PEM form")


def check_directory(name: str | None, path: Steps, place: Place) -> None:
    """A directory that files can be created in, or that can be created itself."""
    if name is not None and not can_be_written(name):
        place.report(path, name, "the path of a directory that can be written, or created")


def can_be_written(directory_name: str) -> bool:
    """Whether files can be created in a directory, after it was created itself where it is not there."""
    try:
        there = next(each for each in (Path(directory_name), *Path(directory_name).absolute().parents) if each.exists())
        # Permissions do not tell everything (a read-only mount, a full quota, /proc), so a file is opened. It never has
        # a name.
        with tempfile.TemporaryFile(dir=there):
            return True
    except (OSError, ValueError):
        return False


def _readable(file: str, path: Steps, place: Place) -> bool:
    try:
        with Path(file).open("rb"):
            return True
    except (OSError, ValueError):
        place.report(path, file, "the path of a readable file")
        return False
