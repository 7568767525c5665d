"""A model put to the test on a site's own patients: a table of truths, read by the path of `ainode read`."""

import csv
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TextIO

from ainode.node.disk import sha256_of
from ainode.node.domain import Presence, Study
from ainode.node.errors import ConfigError, NodeError
from ainode.node.keeping.answers import answer_values
from ainode.node.offline import inputs
from ainode.node.offline import readings as offline
from ainode.node.offline.options import read_options
from ainode.node.offline.truths import Case, cases
from ainode.node.reading import registry
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.settings import Settings

_COLUMNS: Final = ("row", "study_instance_uid", "label", "presence", "probability", "threshold", "code", "seconds")
NOT_READ: Final = "not-read"
"""the code of a row whose files cannot be read, or match no route"""


@dataclass(frozen=True, slots=True)
class CaseAnswer:
    """What the model answered on a row."""

    case: Case
    study_instance_uid: str = ""
    group: str = field(default="", repr=False)
    """what the rows of a patient have in common; never written or printed"""
    presence: str = ""
    probability: float | None = None
    threshold: float | None = None
    code: str = ""
    """of a refusal, '' for an answer"""
    reason: str = ""
    seconds: float = 0.0

    @property
    def words(self) -> str:
        """Return the answer in a line without any patient attribute."""
        answer = self.reason or f"{self.presence or 'no verdict'}, {self.probability}"
        return f"row {self.case.row}, label {int(self.case.is_ill)}: {answer} ({self.seconds:.1f} s)"


@dataclass(frozen=True, slots=True)
class Trial:
    """How the rows are read."""

    settings: Settings
    models: ModelEnvironment
    handler: str
    route: str = ""
    """a route of routes.toml whose conditions count too; '' for the handler alone"""

    @property
    def is_searching(self) -> bool:
        """Return whether the route asks the handler to search where nobody pointed."""
        return any(route.detect for route in self.settings.routes if route.name == self.route)

    def answer(self, case: Case) -> CaseAnswer:
        """Return what the model answers on a case; a case that cannot be read says why."""
        began_s = time.monotonic()
        try:
            with TemporaryDirectory() as folder:
                answer = self._answer(case, Path(folder))
        except (NodeError, OSError) as error:
            answer = CaseAnswer(case, code=NOT_READ, reason=f"not read: {error}")
        group = case.patient or answer.group or f"row {case.row}"
        return replace(answer, group=group, seconds=time.monotonic() - began_s)

    def _answer(self, case: Case, folder: Path) -> CaseAnswer:
        options = offline.options_for(self.handler, read_options(case.points), self.settings.models)
        readable = inputs.input_studies(case.paths, folder, options=options, settings=self.settings)
        study = _only_study(readable)
        routes = offline.routes_for(study, self.settings, None if self.route else self.handler)
        route = next((route for route in routes if route.name in {self.route, self.handler}), None)
        uid, patient = study.study_instance_uid, study.instances[0].patient
        group = f"{patient.patient_id} of {patient.issuer}" if patient.patient_id else ""
        if route is None:
            return CaseAnswer(case, uid, group, code=NOT_READ, reason=f"not read: route {self.route} does not match")
        values = answer_values(offline.read(study, route, self.settings, self.models, readable.notes(study)).summary)
        return _answer_of(CaseAnswer(case, uid, group), values)


def _answer_of(answer: CaseAnswer, values: Mapping[str, Any]) -> CaseAnswer:
    """Return an answer with what a result.json says."""
    if values["code"]:
        return replace(answer, code=values["code"], reason=f"refused: {values['code']}")
    if values["probability"] is None:
        return replace(answer, code="no-probability", reason="the answer has no probability")
    return replace(answer, **{name: values[name] for name in ("presence", "probability", "threshold")})


def handler_of(route: str, settings: Settings) -> str:
    """Return the handler of a route.

    Raises: ConfigError.
    """
    for entry in settings.routes:
        if entry.name == route:
            return entry.handler
    raise ConfigError(f"routes.toml has no route {route!r}; give one of {', '.join(r.name for r in settings.routes)}")


def _only_study(readable: inputs.Inputs) -> Study:
    """Return the study of a row.

    Raises: ConfigError if the row has none, or several.
    """
    if len(readable.studies) == 1:
        return readable.studies[0]
    reasons = "; ".join(sorted({file.reason for file in readable.unread})[:3])
    raise ConfigError(f"{len(readable.studies)} studies; give each row one study. {reasons}".rstrip())


def answer_rows(file: TextIO, answers: Iterable[CaseAnswer]) -> tuple[CaseAnswer, ...]:
    """Write a line of CSV for each answer as soon as it is there, without any patient attribute; return the answers."""
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    written = []
    for answer in answers:
        case = answer.case
        cells = (case.row, answer.study_instance_uid, int(case.is_ill), answer.presence, answer.probability)
        writer.writerow((*cells, answer.threshold, answer.code, f"{answer.seconds:.1f}"))
        file.flush()
        written.append(answer)
    return tuple(written)


def threshold_of(answers: Sequence[CaseAnswer]) -> float:
    """Return the threshold of the answers.

    Raises: ConfigError if the answers have different thresholds.
    """
    thresholds = sorted({answer.threshold for answer in answers if answer.threshold is not None})
    if len(thresholds) > 1:
        raise ConfigError(
            f"the answers have thresholds {', '.join(f'{value:g}' for value in thresholds)}; give each organ or view "
            "a table of its own"
        )
    return thresholds[0] if thresholds else 0.5


def further_figures(answers: Sequence[CaseAnswer]) -> Mapping[str, Any]:
    """Return how many rows were answered, refused and not read, and how many ill rows were found among all of them."""
    codes = Counter(answer.code for answer in answers if answer.code)
    ill = [answer for answer in answers if answer.case.is_ill]
    return {
        "rows": len(answers),
        "answered": len(answers) - codes.total(),
        "not_answered": dict(sorted(codes.items())),
        "indeterminate": sum(answer.presence == Presence.INDETERMINATE for answer in answers),
        "ill_rows": len(ill),
        "ill_rows_called_present": sum(answer.presence == Presence.PRESENT for answer in ill),
    }


def evaluate(
    trial: Trial, table: Path, data: Path, out: Path, on_answer: Callable[[str], None]
) -> Mapping[str, object]:
    """Read every row of a table of truths; write answers.csv, metrics.json and the plots into `out`.

    Raises: ConfigError if the table is wrong, or too few rows are answered for any figure.
    """
    rows = cases(table, data)
    needs = registry.needs(trial.handler, registry.handler(trial.handler, trial.models))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "answers.csv").open("w", encoding="utf-8", newline="") as file:
        answers = answer_rows(file, _told(map(trial.answer, rows), on_answer))
    read = [answer for answer in answers if answer.probability is not None and not answer.code]
    if len({answer.case.is_ill for answer in read}) < 2:  # noqa: PLR2004 - ill and not ill
        raise ConfigError(
            f"{len(read)} of {len(answers)} rows were answered, not both ill and healthy rows: there is no figure; "
            f"{out / 'answers.csv'} has a code for each row"
        )
    laboratory = registry.laboratory()
    evaluation = laboratory.of_two_classes(
        [answer.case.is_ill for answer in read],
        [answer.probability for answer in read],
        [answer.group for answer in read],
        threshold_of(read),
        further_figures(answers),
    )
    digests = {name: trial.models.weights.entry(name).sha256 for name in needs.weights}
    today = datetime.now(UTC).date().isoformat()
    searching = {"detect": True} if trial.is_searching else {}
    title = {"model": trial.handler, "weights": digests, "part": "external", "measured_on": today, **searching}
    written: Mapping[str, object] = laboratory.write_evaluation(evaluation, title, out)
    return written


def _told(answers: Iterable[CaseAnswer], on_answer: Callable[[str], None]) -> Iterator[CaseAnswer]:
    for answer in answers:
        on_answer(answer.words)
        yield answer


def record(metrics: Path, site: Path, model: str) -> Path:
    """Keep a metrics.json beside the site's weights, where the console shows it; return its path.

    Raises: ConfigError if the folder cannot be written.
    """
    digest = sha256_of(metrics)
    path = site / "external" / model / f"external-{digest[:8]}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(metrics, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    return path
