"""Certificates for a test, made by the openssl of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

#: Of the encrypted key.
PASSPHRASE = "a passphrase"


class Authority:
    """Signs for the server `localhost` and for a client. All files are in one directory."""

    def __init__(self, directory: Path) -> None:
        found = shutil.which("openssl")
        if found is None:
            pytest.fail("openssl is not on PATH: apt install openssl", pytrace=False)
        self._openssl, self.directory = found, directory
        self.ca = directory / "ca.crt"
        self._run(
            *(
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=Test CA",
            ),
            *("-keyout", "ca.key", "-out", "ca.crt", "-addext", "keyUsage=critical,keyCertSign"),
        )
        self._sign("server", "subjectAltName=DNS:localhost")
        self._sign("client", "extendedKeyUsage=clientAuth")
        self._run(
            *("rsa", "-aes256", "-in", "client.key", "-out", "locked.key"),
            *("-passout", f"pass:{PASSPHRASE}"),
        )

    def _sign(self, name: str, extension: str) -> None:
        (self.directory / f"{name}.ext").write_text(extension)
        self._run(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-set_serial", str(len(name)), "-days", "2"),
            *("-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        )

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self._openssl, *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
