"""What a route answered on its synthetic study, held against the golden answer of the same weights; kept as files.

Neither patients nor libraries are needed here: pages read these records, too.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from ainode.node.disk import write_durably
from ainode.node.settings import Settings

_SLOW_S: Final = 5.0
_FOLDER: Final = "self_test"


@dataclass(frozen=True, slots=True)
class RouteResult:
    """What a route answered on its synthetic study, and what arrived. Units: seconds."""

    weights_sha256: str
    software: str
    presence: str
    """of the strongest verdict; '' without one"""
    code: str
    """of a refusal; '' where the study was read"""
    findings: tuple[str, ...] = ()
    """name and presence of each"""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """scores and measurements by name"""
    documents: Mapping[str, int] = field(default_factory=dict)
    """how many objects of each modality arrived"""
    seconds: float = 0.0
    """of the reading"""

    @classmethod
    def of(cls, result: str, documents: Mapping[str, int], seconds: float) -> "RouteResult":
        """Return what a result.json says."""
        values: Mapping[str, Any] = json.loads(result) if result else {}
        refusal, algorithm, verdict = (values.get(key) or {} for key in ("out_of_scope", "algorithm", "verdict"))
        findings = values.get("findings") or ()
        measured = {
            f"{finding['name']}, {item['name']} {number}": item["value"]
            for finding in findings
            for number, item in enumerate(finding["measurements"], start=1)
        }
        return cls(
            weights_sha256=algorithm.get("weights_sha256", ""),
            software=", ".join(values.get("software", ())),
            presence=verdict.get("presence") or "",
            code=refusal.get("code", ""),
            findings=tuple(f"{finding['name']}: {finding['presence'] or 'stated'}" for finding in findings),
            numbers={**values.get("scores", {}), **measured},
            documents=dict(documents),
            seconds=seconds,
        )


@dataclass(frozen=True, slots=True)
class RouteRecord:
    """What is kept of the self-tests of a route."""

    route: str
    golden: RouteResult | None = None
    at: datetime | None = None
    """when the route was tested last"""
    problem: str = ""
    """what was wrong then; '' of a test that passed"""
    seconds: float = 0.0
    """of the last test, from the first byte sent to the last document received"""

    @property
    def is_passed(self) -> bool:
        """Return whether the last test passed."""
        return self.at is not None and not self.problem


def changes(golden: RouteResult, result: RouteResult, settings: Settings) -> Iterator[str]:
    """Yield how a result differs from the golden one: another answer, missing objects, a slow reading."""
    for subject, before, now in (
        ("the refusal", golden.code, result.code),
        ("the verdict", golden.presence, result.presence),
        ("the findings", ", ".join(golden.findings), ", ".join(result.findings)),
    ):
        if before != now:
            yield f"{subject}: {before or 'none'} before, {now or 'none'} now"
    yield from _changed_numbers(golden.numbers, result.numbers, settings.self_test.tolerance)
    for modality, count in golden.documents.items():
        if result.documents.get(modality, 0) < count:
            yield f"{modality}: {count} objects before, {result.documents.get(modality, 0)} arrived now"
    if result.seconds > settings.self_test.slow_factor * golden.seconds + _SLOW_S:
        yield f"the reading took {result.seconds:.1f} s, and {golden.seconds:.1f} s before"


def _changed_numbers(before: Mapping[str, float], now: Mapping[str, float], tolerance: float) -> Iterator[str]:
    for name in dict.fromkeys((*before, *now)):
        number, now_number = before.get(name), now.get(name)
        if number is None or now_number is None:
            yield f"{name}: {number} before, {now_number} now"
        elif not abs(number - now_number) <= tolerance * max(1.0, abs(number)):  # a number that is none, too
            yield f"{name}: {number:.6g} before, {now_number:.6g} now"


def compared(record: RouteRecord, result: RouteResult, settings: Settings) -> tuple[RouteRecord, str]:
    """Return the record with a result that is held against the golden one, and what is to be said of a new golden one.

    The first result of a route, and the first with other weights, is the golden one; a refusal never is.
    """
    if record.golden and record.golden.weights_sha256 == result.weights_sha256:
        return replace(record, problem="; ".join(changes(record.golden, result, settings))), ""
    if result.code:
        return replace(record, problem=f"the model refused the synthetic study of its own handler: {result.code}"), ""
    words = "with other weights than before" if record.golden else "for the first time"
    return replace(record, golden=result, problem=""), f"read {words}: this answer is the golden one from now on"


def study_of(route: str) -> str:
    """Return the name of the synthetic study of a route, of which its UID is made."""
    return f"self-test of route {route}"


def records(settings: Settings) -> tuple[RouteRecord, ...]:
    """Return what is kept of each route that is tested, in the order of node.toml."""
    return tuple(record_of(settings, route) for route in settings.self_test.routes)


def state(settings: Settings) -> Literal["off", "not run", "passed", "failed"]:
    """Return how the last tests of all routes ended, in a word."""
    tests = records(settings)
    if not tests:
        return "off"
    if any(record.problem for record in tests):
        return "failed"
    return "passed" if all(record.is_passed for record in tests) else "not run"


def record_of(settings: Settings, route: str) -> RouteRecord:
    """Return what is kept of a route; nothing where a file is missing or cannot be read."""
    try:
        values = json.loads(_path(settings, route).read_text(encoding="utf-8"))
        golden = values.pop("golden")
        at = values.pop("at")
        return RouteRecord(
            **values,
            golden=RouteResult(**{**golden, "findings": tuple(golden["findings"])}) if golden else None,
            at=datetime.fromisoformat(at) if at else None,
        )
    except (OSError, ValueError, TypeError, KeyError):
        return RouteRecord(route)


def keep(settings: Settings, record: RouteRecord) -> None:
    """Write what is kept of a route.

    Raises: OSError.
    """
    values = {**asdict(record), "at": record.at.isoformat() if record.at else None}
    write_durably(_path(settings, record.route), json.dumps(values, indent=1).encode(), mode=0o600)


def forget(settings: Settings, route: str) -> None:
    """Forget the golden answer of a route: the next test makes another one."""
    _path(settings, route).unlink(missing_ok=True)


def _path(settings: Settings, route: str) -> Path:
    """Return the file of a route, whose name may be no name of a file."""
    digest = hashlib.sha256(route.encode()).hexdigest()[:8]
    return settings.data / _FOLDER / f"{re.sub('[^A-Za-z0-9]+', '-', route)[:40]}-{digest}.json"
