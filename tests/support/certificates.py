"""Certificates made by the openssl command; a missing command is a skip that names it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.servers import program

_RSA = ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-sha256")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, each in PEM."""

    path: Path
    key: Path


def authority(folder: Path, name: str) -> Certificate:
    """Return a certification authority."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl("req", "-x509", *_RSA, "-subj", f"/CN={name}", "-keyout", made.key, "-out", made.path)
    return made


def issued(ca: Certificate, name: str, *, host: str = "IP:127.0.0.1") -> Certificate:
    """Return a certificate that the authority signed for this host."""
    made = Certificate(ca.path.with_name(f"{name}.pem"), ca.path.with_name(f"{name}.key"))
    signed = ("-CA", ca.path, "-CAkey", ca.key, "-addext", f"subjectAltName={host}")
    leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
    _openssl("req", "-x509", *_RSA, *signed, *leaf, "-subj", f"/CN={name}", "-keyout", made.key, "-out", made.path)
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run([program("openssl"), *arguments], check=True, capture_output=True)
