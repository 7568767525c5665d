"""The kit that every model must pass: one study in many clothes, studies that it must refuse, and what it says.

Each reading goes through a reader process, as the node's do.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ainode.node import __version__
from ainode.node.domain import UID, OutOfScope, counted
from ainode.node.errors import ConfigError
from ainode.node.proving.checks import Check, Outcome, failed, not_applicable, passed
from ainode.node.proving.prover import Attempt, Prover
from ainode.node.proving.refusals import Refusals
from ainode.node.proving.repetition import Repetition
from ainode.node.proving.same_study import SameStudy
from ainode.node.proving.statements import statement_checks
from ainode.node.proving.studies import Case, cases_in, patient_words, synthetic_case
from ainode.node.proving.validators import validator_checks
from ainode.node.reading import registry
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.settings import Settings

REPORT: Final = "model-test.json"
"""the file that `--out` gets"""


@dataclass(frozen=True, slots=True)
class StudyReport:
    """What the kit says of one study."""

    study_instance_uid: UID
    checks: tuple[Check, ...]

    @property
    def is_passed(self) -> bool:
        """Return whether no check failed."""
        return all(check.outcome is not Outcome.FAILED for check in self.checks)


@dataclass(frozen=True, slots=True)
class Kit:
    """The kit of one handler."""

    handler: str
    settings: Settings
    models: ModelEnvironment
    tell: Callable[[str], None]
    """gets each line as soon as it is known"""
    tell_words: Callable[[], None] = lambda: None
    """called after each check that failed: shows what a site's program printed last, which no line has"""

    def run(self, data: Path | None, seed: int) -> tuple[StudyReport, ...]:
        """Check the studies of a folder, or the handler's own synthetic study without one.

        Raises: ConfigError if there is no study, or the handler cannot be built.
        """
        with TemporaryDirectory(prefix="ainode-kit.") as name:
            folder = Path(name)
            cases = (
                tuple(cases_in(data, self.settings))
                if data
                else (synthetic_case(self.handler, self.models, seed, folder),)
            )
            reports = tuple(self._report(case, folder, is_own=data is None) for case in cases)
        self.tell(_total(reports))
        if all(_is_refused(item.checks) for item in reports):  # of a study that failed, its own line says so
            self.tell(f"studies: {Outcome.FAILED}: none was read, so the kit saw nothing of the model")
        return reports

    def _report(self, case: Case, folder: Path, *, is_own: bool) -> StudyReport:
        self.tell(f"study {case.study_instance_uid}, {len(case.paths)} objects")
        prover = Prover(self.handler, self.settings, self.models)
        checks: list[Check] = []
        try:
            for check in self._checks(case, prover, folder, is_own=is_own):
                checks.append(check)
                if not _is_refused(checks) or check is checks[0] or check.outcome is Outcome.FAILED:
                    self.tell(check.line)
                if check.outcome is Outcome.FAILED:
                    self.tell_words()
        finally:
            prover.end()
        if _is_refused(checks):
            self.tell(f"further checks of the refusal: {_counts(checks[1:])}")
        return StudyReport(case.study_instance_uid, tuple(checks))

    def _checks(self, case: Case, prover: Prover, folder: Path, *, is_own: bool) -> Iterable[Check]:
        if not case.images:
            yield failed(_READ, "the study has no image")
            return
        first = prover.read(case.paths)
        yield _read(first, is_own=is_own)
        if first.reading is None:
            return
        yield from Repetition(case, prover, first).checks()
        yield from SameStudy(case, prover, first.reading.answer, folder).checks()
        if isinstance(first.reading.answer, OutOfScope):
            yield not_applicable("refused", "the study is refused as it is")
        else:
            yield from Refusals(case, prover, folder).checks()
        yield from statement_checks(first.reading, patient_words(case.headers))
        with TemporaryDirectory(dir=folder) as documents:
            yield from validator_checks(first.reading, case.paths, Path(documents))


_READ: Final = "read"


def _read(attempt: Attempt, *, is_own: bool) -> Check:
    """Return the check that the study is read; a study of a site may be one that the model is not for."""
    if attempt.reading is None or (is_own and isinstance(attempt.answer, OutOfScope)):
        return failed(_READ, attempt.words)
    if isinstance(attempt.answer, OutOfScope):
        return not_applicable(_READ, attempt.words)
    return passed(_READ, attempt.words)


def _is_refused(checks: Sequence[Check]) -> bool:
    """Return whether a study of a site was refused: then every check holds a refusal against the same refusal."""
    return bool(checks) and checks[0].name == _READ and checks[0].outcome is Outcome.NOT_APPLICABLE


def _total(reports: Sequence[StudyReport]) -> str:
    """Return the line that says how many studies were read and refused, and which checks failed."""
    checks = [check for item in reports for check in item.checks]
    read = sum(check.name == _READ and check.outcome is Outcome.PASSED for check in checks)
    refused = sum(_is_refused(item.checks) for item in reports)
    names = dict.fromkeys(check.name for check in checks if check.outcome is Outcome.FAILED)
    failures = f"; FAILED: {'; '.join(names)}" if names else ""
    studies = counted(len(reports), "study", "studies")
    return f"total: {studies}, {read} read, {refused} refused; {_counts(checks)}{failures}"


def _counts(checks: Sequence[Check]) -> str:
    """Return how many checks ended in which way, the ways that occurred."""
    numbers = {outcome: sum(check.outcome is outcome for check in checks) for outcome in Outcome}
    return ", ".join(f"{number} {outcome}" for outcome, number in numbers.items() if number) or "none"


def is_passed(reports: Sequence[StudyReport]) -> bool:
    """Return whether no check failed, and a study was read at least."""
    return _is_any_read(reports) and all(item.is_passed for item in reports)


def _is_any_read(reports: Sequence[StudyReport]) -> bool:
    return any(check.name == _READ and check.outcome is Outcome.PASSED for item in reports for check in item.checks)


def write_report(out: Path, kit: Kit, reports: Sequence[StudyReport], now: datetime) -> Path:
    """Write what the kit says as JSON into a folder, and return the path; it has no patient attribute.

    Raises: ConfigError if the folder cannot be written.
    """
    path = out / REPORT
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_values(kit, reports, now), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _values(kit: Kit, reports: Sequence[StudyReport], now: datetime) -> Mapping[str, object]:
    needs = registry.needs(kit.handler, registry.handler(kit.handler, kit.models))
    entries = [kit.models.weights.entry(name) for name in needs.weights]
    return {
        "handler": kit.handler,
        "weights": [{"name": entry.name, "version": entry.version, "sha256": entry.sha256} for entry in entries],
        "software": f"ainode {__version__}",
        "tested_at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "passed": is_passed(reports),
        "studies": [
            {"study_instance_uid": item.study_instance_uid, "checks": [check.values for check in item.checks]}
            for item in reports
        ],
    }
