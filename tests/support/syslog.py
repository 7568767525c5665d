"""Syslog messages as RFC 5424 and PS3.15 A.5.1 describe them, parsed without the node's own code."""

import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# RFC 5424 6: the header, one element of structured data, the text with its byte order mark.
_SYSLOG = re.compile(
    r"<(?P<priority>\d{1,3})>1 (?P<time>\S+) (?P<host>[!-~]{1,255}) (?P<program>[!-~]{1,48}) (?P<process>[!-~]{1,128}) "
    r'(?P<kind>[!-~]{1,32}) \[(?P<id>[^ =\]"]{1,32})(?P<data>( [^ =\]"]{1,32}="[^"\\\]]*")*)\] \ufeff(?P<text>.*)',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Event:
    """One message of an audit trail."""

    number: int
    priority: int
    kind: str
    time: datetime
    root: ET.Element

    @property
    def code(self) -> str:
        """Return the code of the event, and of its type."""
        codes = [self.root.find("EventIdentification/EventID"), self.root.find("EventIdentification/EventTypeCode")]
        return " ".join(code.attrib["csd-code"] for code in codes if code is not None)

    @property
    def outcome(self) -> str:
        """Return 0 for a success."""
        return self.root.find("EventIdentification").attrib["EventOutcomeIndicator"]  # type: ignore[union-attr]

    @property
    def titles(self) -> list[str]:
        """Return user id, or AE title, of the participants."""
        return [
            entry.attrib.get("AlternativeUserID", "AETITLES=" + entry.attrib["UserID"]).removeprefix("AETITLES=")
            for entry in self.root.findall("ActiveParticipant")
        ]

    @property
    def subjects(self) -> list[str]:
        """Return the identifiers of the objects."""
        return [entry.attrib["ParticipantObjectID"] for entry in self.root.findall("ParticipantObjectIdentification")]

    @property
    def details(self) -> dict[str, str]:
        """Return the details of the objects."""
        entries = self.root.findall("ParticipantObjectIdentification/ParticipantObjectDetail")
        return {entry.attrib["type"]: base64.b64decode(entry.attrib["value"]).decode() for entry in entries}

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of instances of each SOP class."""
        return {
            entry.attrib.get("UID", ""): int(entry.attrib["NumberOfInstances"]) for entry in self.root.iter("SOPClass")
        }


def event_of(line: bytes) -> Event:
    """Return the event of one syslog message, which is valid."""
    match = _SYSLOG.fullmatch(line.decode().removesuffix("\n"))
    assert match, line
    data = dict(re.findall(r'([a-z0-9]+)="([^"]*)"', match["data"]))
    root = ET.fromstring(match["text"])  # noqa: S314 - our own
    assert_valid(root)
    return Event(int(data["seq"]), int(match["priority"]), match["kind"], datetime.fromisoformat(match["time"]), root)


def events(folder: Path) -> list[Event]:
    """Return the events of a trail in their order."""
    content = b"".join(path.read_bytes() for path in sorted(folder.glob("audit-*.log")))
    return [event_of(line) for line in content.split(b"\n")[:-1]]


# PS3.15 A.5.1.1: for each element its required and its other attributes, and its children in their order with the
# smallest and the largest number of each (None is any number).
_CODED = ({"csd-code", "codeSystemName", "originalText"}, {"displayName"}, [])
_ACCESS = {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"}
_OBJECT = {"Code", "CodeRole", "DataLifeCycle", "Sensitivity"}
_SCHEMA: dict[str, tuple[set[str], set[str], list[tuple[str, int, int | None]]]] = {
    "AuditMessage": (
        set(),
        set(),
        [
            ("EventIdentification", 1, 1),
            ("ActiveParticipant", 1, None),
            ("AuditSourceIdentification", 1, 1),
            ("ParticipantObjectIdentification", 0, None),
        ],
    ),
    "EventIdentification": (
        {"EventDateTime", "EventOutcomeIndicator"},
        {"EventActionCode"},
        [("EventID", 1, 1), ("EventTypeCode", 0, None), ("EventOutcomeDescription", 0, 1)],
    ),
    "EventOutcomeDescription": (set(), set(), []),
    "EventID": _CODED,
    "EventTypeCode": _CODED,
    "RoleIDCode": _CODED,
    "ActiveParticipant": ({"UserID", "UserIsRequestor"}, _ACCESS, [("RoleIDCode", 0, None), ("MediaIdentifier", 0, 1)]),
    "MediaIdentifier": (set(), set(), [("MediaType", 1, 1)]),
    "MediaType": _CODED,
    "AuditSourceIdentification": ({"AuditSourceID"}, {"AuditEnterpriseSiteID"}, [("AuditSourceTypeCode", 0, None)]),
    "AuditSourceTypeCode": ({"csd-code"}, {"codeSystemName", "displayName", "originalText"}, []),
    "ParticipantObjectIdentification": (
        {"ParticipantObjectID"},
        {"ParticipantObjectType" + name if name.startswith("Code") else "ParticipantObject" + name for name in _OBJECT},
        [
            ("ParticipantObjectIDTypeCode", 1, 1),
            ("ParticipantObjectName", 0, 1),
            ("ParticipantObjectQuery", 0, 1),
            ("ParticipantObjectDetail", 0, None),
            ("ParticipantObjectDescription", 0, None),
        ],
    ),
    "ParticipantObjectIDTypeCode": _CODED,
    "ParticipantObjectName": (set(), set(), []),
    "ParticipantObjectQuery": (set(), set(), []),
    "ParticipantObjectDetail": ({"type", "value"}, set(), []),
    "ParticipantObjectDescription": (set(), set(), [("SOPClass", 0, None)]),
    "SOPClass": ({"NumberOfInstances"}, {"UID"}, []),
}
_VALUES = {
    "EventActionCode": set("CRUDE"),
    "EventOutcomeIndicator": {"0", "4", "8", "12"},
    "UserIsRequestor": {"true", "false"},
    "NetworkAccessPointTypeCode": set("12345"),
    "ParticipantObjectTypeCode": set("1234"),
    "ParticipantObjectTypeCodeRole": {str(number) for number in range(1, 27)},
}


def assert_valid(element: ET.Element) -> None:
    """Fail unless an element and its children are as the schema says."""
    required, other, children = _SCHEMA[element.tag]
    assert required <= set(element.attrib) <= required | other, element.attrib
    for name, values in _VALUES.items():
        assert element.attrib.get(name) in values | {None}, (name, element.attrib)
    order = [name for name, _, _ in children]
    tags = [child.tag for child in element]
    assert tags == sorted(tags, key=order.index), tags
    for name, least, most in children:
        assert least <= tags.count(name) <= (len(tags) if most is None else most), (name, tags)
    if element.tag == "ParticipantObjectIdentification":
        assert ("ParticipantObjectName" in tags) != ("ParticipantObjectQuery" in tags)
    if "EventDateTime" in element.attrib:
        assert datetime.fromisoformat(element.attrib["EventDateTime"]).tzinfo
    for child in element:
        assert_valid(child)
