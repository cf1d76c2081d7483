"""Certificates made for the occasion, with openssl."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    cert: Path
    key: Path

    @property
    def variables(self) -> dict[str, str]:
        """For the listener of a gateway."""
        return {"TLS_CERT_FILE": str(self.cert), "TLS_KEY_FILE": str(self.key)}


def require_openssl() -> None:
    """Skips without `openssl`; fails instead where CI says that everything must run."""
    if shutil.which("openssl") is not None:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail("openssl is not installed, and CI=true allows no skipping")
    pytest.skip("openssl is not installed")


def make_certificate(directory: Path, days: int = 2) -> Certificate:
    """Self-signed, for localhost and 127.0.0.1; replaces what is there. Without openssl the test is skipped."""
    require_openssl()
    directory.mkdir(exist_ok=True)
    made = Certificate(directory / "cert.pem", directory / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", str(days), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(made.key), "-out", str(made.cert)),
        ],
        check=True,
        capture_output=True,
    )
    return made
