"""Certificates made by the openssl command; a missing command is a skip that names it."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support.servers import program

_RSA = ("-newkey", "rsa:2048", "-nodes", "-sha256")
_DAYS = ("-days", "2")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, each in PEM."""

    path: Path
    key: Path


def authority(folder: Path, name: str) -> Certificate:
    """Return a certification authority."""
    certificate = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        "req", "-x509", *_RSA, *_DAYS, "-subj", f"/CN={name}", "-keyout", certificate.key, "-out", certificate.path
    )
    return certificate


def issued(ca: Certificate, name: str, *, host: str = "IP:127.0.0.1", days: int = 2) -> Certificate:
    """Return a certificate that the authority signed for this host; with -1 days it has expired."""
    certificate = Certificate(ca.path.with_name(f"{name}.pem"), ca.path.with_name(f"{name}.key"))
    request = ca.path.with_name(f"{name}.csr")
    extensions = ("-addext", f"subjectAltName={host}", "-addext", "basicConstraints=critical,CA:FALSE")
    _openssl("req", "-new", *_RSA, *extensions, "-subj", f"/CN={name}", "-keyout", certificate.key, "-out", request)
    signed = ("-CA", ca.path, "-CAkey", ca.key, "-CAcreateserial", "-copy_extensions", "copyall", "-sha256")
    _openssl("x509", "-req", "-in", request, *signed, "-days", str(days), "-out", certificate.path)
    return certificate


def revocation_list(ca: Certificate, *revoked: Certificate, is_expired: bool = False) -> bytes:
    """Return the PEM of a list of the authority, which the authority signs anew at each call."""
    with tempfile.TemporaryDirectory() as name:
        index = Path(name, "index.txt")
        index.write_text("")
        config = Path(name, "ca.cnf")
        config.write_text(f"[ca]\ndefault_ca = own\n[own]\ndatabase = {index}\ndefault_md = sha256\n")
        own = ("ca", "-config", config, "-cert", ca.path, "-keyfile", ca.key)
        for certificate in revoked:
            _openssl(*own, "-revoke", certificate.path)
        times = ("-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z")
        _openssl(*own, "-gencrl", "-out", Path(name, "crl"), *(times if is_expired else ("-crldays", "30")))
        return Path(name, "crl").read_bytes()


def fingerprint(certificate: Certificate) -> str:
    """Return the SHA-256 fingerprint that the openssl command prints."""
    return _openssl("x509", "-noout", "-fingerprint", "-sha256", "-in", certificate.path).strip()


def _openssl(*arguments: str | Path) -> str:
    return subprocess.run([program("openssl"), *arguments], check=True, capture_output=True, text=True).stdout
