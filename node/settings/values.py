"""The types of the values in node.toml: their ranges, and the words for what does not fit."""

import os
from functools import partial
from ipaddress import ip_network
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from ainode.node.certificates import identity

# PS3.5 6.2: 16 characters at most, no backslash or control characters.
_AE_TITLE: Final = r"^[ -\[\]-~]*$"
# A name becomes a folder, a file, an argument: `..` and `/` lead out of a folder, and `-x` is an option.
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
ROUTE_NAME: Final = r"^[^\W_][^/\\\x00-\x1f\x7f]*$"
"""of a route, which people read: letters of every script and further signs may follow"""
# LO (PS3.5 6.2): a backslash would make two values of the Station Name.
PRINTED: Final = r"^[^\x00-\x1f\x7f\\]*$"
# What a search compares as it stands (PS3.4 C.2.2.2): no wild card, and no comma, which would part two conditions.
COMPARED: Final = r"^[^\x00-\x1f\x7f\\,*?]*$"
# A name or an address, without a scheme and without a port; colons are those of IPv6.
_HOST: Final = r"^[A-Za-z0-9_.-]*$|^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?$"
# RFC 9110 5.1, less what no header is named.
HEADER: Final = r"^([A-Za-z][A-Za-z0-9-]{0,63})?$"
# An address holds no user and no password: the environment holds both.
_URL: Final = r"^(https?://[^/?#@\s]+(/[^?#@\s]*)?)?$"
# RFC 3986: an absolute URI, which FHIR compares character by character.
_SYSTEM: Final = r"^([A-Za-z][A-Za-z0-9+.-]*:\S+)?$"
PATTERN_WORDS: Final = {
    _SYSTEM: "is no URI such as urn:oid:1.2.3 or https://hospital.example/patients; give the system of the server",
    _AE_TITLE: "has a backslash, a control character or a letter beyond ASCII; give letters, digits and spaces",
    PRINTED: "has a backslash or a control character; remove it",
    COMPARED: "has a comma, a wild card (* or ?), a backslash or a control character; give the value of the worklist",
    HEADER: "is no name of an HTTP header; give one such as X-Remote-User",
    NAME: "has to begin with a letter or digit, and may hold A-Z a-z 0-9 _ . - alone; rename it",
    ROUTE_NAME: "is no name of a route, which begins with a letter or digit and has no /, no \\ and no control "
    "character; rename it",
    _HOST: "is no name and no address of a machine; leave out a scheme, a path and a port, which is a key of its own",
    _URL: "is no address such as https://archive.example/dicom-web; correct it, leave out a query, and let user_env "
    "and password_env name the variables of user and password",
}
"""by the patterns of this module: what is wrong with a text that does not fit, and what to do"""
AETitleText = Annotated[str, StringConstraints(strip_whitespace=True, max_length=16, pattern=_AE_TITLE)]
AETitle = Annotated[AETitleText, StringConstraints(min_length=1)]
StationName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=PRINTED)]
Host = Annotated[str, StringConstraints(strip_whitespace=True, pattern=_HOST)]
Bind = Annotated[Host, StringConstraints(min_length=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
# A century: more is a slip of the keyboard, and leaves the calendar (year 1) or the range of a timedelta.
Days = Annotated[int, Field(ge=0, le=36_500)]
# A month: more is a slip of the keyboard, and infinity is no time limit that a clock or a socket takes. Less than a
# twentieth of a second is a slip too: nothing that crosses a network ends within it.
Seconds = Annotated[float, Field(ge=0.05, le=30 * 86_400.0)]
# A pebibyte: more than any disk or memory of one machine.
Bytes = Annotated[int, Field(ge=0, le=1024**5)]


def refuse_no_text(value: object) -> None:
    """Return if a value is no text, or a text, or a list of texts, that the system takes as a path.

    Raises: ValueError.
    """
    for text in value if isinstance(value, list) else (value,):
        try:
            is_broken = isinstance(text, str) and b"\0" in os.fsencode(text)
        except UnicodeEncodeError:  # JSON can write half of a surrogate pair
            is_broken = True
        if is_broken:
            message = "holds a NUL character, or half a character; remove it"
            raise ValueError(message)


def _refuse_no_host(url: str) -> str:
    """Return an address.

    Raises: ValueError if no machine can be called there.
    """
    try:
        is_callable = not url or (bool(urlsplit(url).hostname) and urlsplit(url).port != 0)
    except ValueError:
        is_callable = False
    if not is_callable:
        raise ValueError(PATTERN_WORDS[_URL])
    return url


def _refuse_no_network(text: str) -> str:
    """Return the address of a machine or a network.

    Raises: ValueError.
    """
    try:
        ip_network(text)
    except ValueError as error:
        message = f"{text!r} is no address of a machine or a network; give one such as 10.0.0.5 or 10.0.0.0/24"
        raise ValueError(message) from error
    return text


def _refuse_slower(rate: int, slowest: int) -> int:
    """Return a rate per minute.

    Raises: ValueError if a sender would wait so long for an answer that the sender gives up.
    """
    if 0 < rate < slowest:
        message = f"makes senders give up; give {slowest} or more, or 0 for no limit"
        raise ValueError(message)
    return rate


def _refuse_no_study(template: str) -> str:
    """Return the template of an address of a viewer.

    Raises: ValueError if the template has no place for the study, or is no address.
    """
    is_address = template.startswith(("https://", "http://", "weasis://"))
    if template and ("{study}" not in template or not is_address or not template.isprintable() or " " in template):
        message = 'is no address of a viewer; give one with {study} in it, such as "https://host/viewer?study={study}"'
        raise ValueError(message)
    return template


# One a second: DCMTK and most modalities wait for an answer for 30 s or more.
PerMinute = Annotated[int, Field(ge=0, le=10**9), AfterValidator(partial(_refuse_slower, slowest=60))]
# A PDU of the usual size in four seconds.
BytesPerMinute = Annotated[Bytes, AfterValidator(partial(_refuse_slower, slowest=2 * 1024**2))]
# The identity of a certificate, in the form in which identities are compared.
Identity = Annotated[str, AfterValidator(identity)]
Url = Annotated[str, StringConstraints(strip_whitespace=True, pattern=_URL), AfterValidator(_refuse_no_host)]
System = Annotated[str, StringConstraints(strip_whitespace=True, pattern=_SYSTEM)]
# Where a viewer shows a study: `{study}` stands for its Study Instance UID.
ViewerUrl = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000), AfterValidator(_refuse_no_study)]
Network = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_refuse_no_network)]
