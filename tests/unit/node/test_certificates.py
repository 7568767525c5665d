"""Identities and dates of certificates; the openssl command is the other opinion."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import run
from support.certificates import authority, fingerprint, issued, revocation_list

from ainode.node.certificates import fingerprint_of, identities, identity, next_update, valid_until


def date(*command: str | Path) -> datetime:
    """Return the date that the openssl command prints."""
    text = run("openssl", *command).stdout.partition("=")[2].strip()
    return datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)


def test_dates_and_fingerprint_are_those_that_openssl_prints(tmp_path: Path) -> None:
    ca = authority(tmp_path, "ca")
    for days in (-1, 2, 20_000):  # from 2050 the time has another type
        certificate = issued(ca, f"days{days}", days=days)
        der = ssl.PEM_cert_to_DER_cert(certificate.path.read_text())
        assert valid_until(der) == date("x509", "-noout", "-enddate", "-in", certificate.path)
        assert fingerprint_of(der) == identity(fingerprint(certificate))
    for is_expired in (False, True):
        path, der_path = tmp_path / "crl.pem", tmp_path / "crl.der"
        path.write_bytes(revocation_list(ca, is_expired=is_expired))
        assert run("openssl", "crl", "-in", path, "-outform", "DER", "-out", der_path).returncode == 0
        assert next_update(der_path.read_bytes()) == date("crl", "-noout", "-nextupdate", "-in", path)


@given(st.binary(max_size=80))
def test_noise_is_no_certificate_and_no_list(noise: bytes) -> None:
    for date_of in (valid_until, next_update):
        with pytest.raises(ValueError, match=r"."):
            date_of(noise)
        with pytest.raises(ValueError, match=r"."):
            date_of(b"\x30\x7f" + noise)


@pytest.mark.parametrize(
    "entry", ["", " ", "AB:" * 19 + "AB", "ab" * 20, "cd" * 33, "SHA1 Fingerprint=AB:CD", "sha256:12", "md5:aa"]
)
def test_a_fingerprint_other_than_sha_256_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        identity(entry)


def test_the_forms_of_a_fingerprint_are_the_same_identity() -> None:
    digits = "AB" * 32
    forms = (digits, ":".join(["ab"] * 32), f"sha256:{digits}", f"SHA256 Fingerprint={digits}", f" {digits}\n")
    assert {identity(form) for form in forms} == {f"sha256:{digits.lower()}"}
    assert identity("CT1.Hospital.example") == "ct1.hospital.example"


def test_a_certificate_is_known_by_its_names_and_nobody_without_one() -> None:
    subject = ((("organizationName", "Hospital"),), (("commonName", "CT 1"),))
    alternatives = (("DNS", "CT1.example"), ("IP Address", "10.0.0.7"), ("email", "someone@example"))
    shown = identities({"subject": subject, "subjectAltName": alternatives}, b"der")
    assert shown == {fingerprint_of(b"der"), "ct 1", "ct1.example", "10.0.0.7"}
    assert identities({}, b"der") == frozenset()
