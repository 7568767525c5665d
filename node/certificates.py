"""The identity that a certificate states, and the end of validity of certificates and revocation lists.

Python's ssl checks certificates, but returns no date of a file; the DER of both kinds of file is walked for that.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

# What `openssl x509 -noout -fingerprint -sha256` prints, with or without its first words and its colons.
_FINGERPRINT: Final = re.compile(r"(?:sha-?256(?: fingerprint)?[:=])?((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})")
_OTHER_FINGERPRINT: Final = re.compile(r"(?:(?:sha|md)-?[0-9]+[ :=].*|(?:[0-9a-f]{2}:){9,}[0-9a-f]{2}|[0-9a-f]{32,})")
_NAME_KINDS: Final = frozenset({"DNS", "IP Address"})
# X.690 8.1.2: tags of ASN.1.
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0
_TIMES: Final = (_UTC_TIME, _GENERALIZED_TIME)


def identity(text: str) -> str:
    """Return an entry of `calling_certificates` in its normal form: `sha256:` and 64 digits, or a name in lower case.

    Raises: ValueError if the entry is empty, or is a fingerprint other than SHA-256.
    """
    entry = text.strip().lower()
    if fingerprint := _FINGERPRINT.fullmatch(entry):
        return f"sha256:{fingerprint[1].replace(':', '')}"
    if not entry or _OTHER_FINGERPRINT.fullmatch(entry):
        message = (
            f"{text!r} is no SHA-256 fingerprint and no name of a certificate; give what "
            "`openssl x509 -noout -fingerprint -sha256 -in FILE` prints, or a DNS name, IP address or Common Name"
        )
        raise ValueError(message)
    return entry


def fingerprint_of(der: bytes) -> str:
    """Return the SHA-256 fingerprint of a certificate, in the form of `identity`."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def identities(certificate: Mapping[str, object], der: bytes) -> frozenset[str]:
    """Return the fingerprint, DNS names, IP addresses and Common Names of a certificate, each as `identity` does.

    `certificate` is what `SSLSocket.getpeercert()` returns; a certificate that nobody verified has no identity.
    """
    if not certificate:
        return frozenset()
    alternatives = _pairs(certificate.get("subjectAltName"))
    subject = (pair for parts in _tuples(certificate.get("subject")) for pair in _pairs(parts))
    names = [name for kind, name in alternatives if kind in _NAME_KINDS]
    names += [name for kind, name in subject if kind == "commonName"]
    return frozenset({fingerprint_of(der), *(name.strip().lower() for name in names)})


def valid_until(der: bytes) -> datetime:
    """Return until when a certificate is valid.

    Raises: ValueError if the bytes are no certificate.
    Source: RFC 5280 4.1: Certificate, TBSCertificate, Validity.
    """
    elements = [element for element in _elements(_first(_first(der))) if element[0] != _VERSION]
    _serial_number, _algorithm, _issuer, (tag, validity), *_ = [*elements, *[(0, b"")] * 4]
    times = list(_elements(validity)) if tag == _SEQUENCE else []
    if [tag for tag, _ in times if tag in _TIMES] != [tag for tag, _ in times] or not times:
        message = "no certificate: it states no validity"
        raise ValueError(message)
    return _time(*times[-1])


def next_update(der: bytes) -> datetime | None:
    """Return when a revocation list expires, None if the list does not say.

    Raises: ValueError if the bytes are no revocation list.
    Source: RFC 5280 5.1: CertificateList, TBSCertList; `thisUpdate` stands before `nextUpdate`.
    """
    times = [element for element in _elements(_first(_first(der))) if element[0] in _TIMES]
    if not times:
        message = "no revocation list: it states no time"
        raise ValueError(message)
    return _time(*times[1]) if len(times) > 1 else None


def _pairs(value: object) -> Iterator[tuple[str, str]]:
    """Yield the pairs of two texts in a value of `getpeercert`."""
    for pair in _tuples(value):
        match pair:
            case (str(kind), str(text)):
                yield kind, text


def _tuples(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


def _first(der: bytes) -> bytes:
    """Return the content of the sequence that the bytes begin with."""
    tag, content = next(_elements(der), (0, b""))
    if tag != _SEQUENCE:
        message = "no DER of a certificate or of a revocation list"
        raise ValueError(message)
    return content


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element (X.690 8.1).

    Raises: ValueError if an element is longer than the bytes.
    """
    start = 0
    while start < len(der):
        length = int.from_bytes(der[start + 1 : start + 2])
        content = start + 2
        if length & 0x80:
            content += length & 0x7F
            length = int.from_bytes(der[start + 2 : content])
        if content + length > len(der):
            message = "an element is longer than the file"
            raise ValueError(message)
        yield der[start], der[content : content + length]
        start = content + length


def _time(tag: int, content: bytes) -> datetime:
    """Return a time (RFC 5280 4.1.2.5): with two digits of the year, those from 50 are of the 20th century."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
