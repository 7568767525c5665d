"""The story of one job: which study is older, and what is said of one that is not read."""

from datetime import UTC, datetime
from pathlib import Path

from support.handler import Obedient

from ainode.node import testing
from ainode.node.domain import UID, DocumentContext, File, OutOfScope, Request, Selection, Study
from ainode.node.reading import pipeline

CONTEXT = DocumentContext(datetime(2026, 1, 1, tzinfo=UTC), UID("2.25.4"), "test", ("ainode 0",), "none")
NOTE = "Earlier studies: PACS has none that fits."


def a_file(folder: Path, study: str, **header: str) -> File:
    (path,) = testing.write([testing.noise(16, 16, seed=0, **header)], folder / study, study=study)
    return File(path, "")


class Looking(Obedient):
    """Keeps the study that it was shown."""

    def __init__(self) -> None:
        self.seen: list[Study] = []

    def select(self, study: Study) -> Selection | OutOfScope:
        self.seen.append(study)
        return OutOfScope("seen", "seen")


def test_priors_of_one_day_are_ordered_by_their_time_and_those_of_one_time_always_alike(tmp_path: Path) -> None:
    times = {"late": "170000", "early": "080000.5", "noon": "120000", "also noon": "120000"}
    files = [a_file(tmp_path, study, StudyDate="20250705", StudyTime=time) for study, time in times.items()]
    last_year = a_file(tmp_path, "last year", StudyDate="20240101", StudyTime="230000")
    now = a_file(tmp_path, "now")
    handler = Looking()
    for priors in ((*files, last_year), (last_year, *reversed(files))):
        pipeline.read(Request(UID(testing.uid("now")), (now,), CONTEXT, priors=priors), handler)
    orders = [[prior.study_instance_uid for prior in study.priors] for study in handler.seen]
    noons = sorted(map(testing.uid, ("noon", "also noon")))
    assert orders == [[*map(testing.uid, ("last year", "early")), *noons, testing.uid("late")]] * 2


def test_a_study_that_is_not_read_says_how_its_priors_were_looked_for(tmp_path: Path) -> None:
    file = a_file(tmp_path, "now", SeriesDescription="decline")
    request = Request(UID(testing.uid("now")), (file,), CONTEXT, report_out_of_scope=True, notes=(NOTE,))
    reading = pipeline.read(request, Obedient())
    assert isinstance(reading.answer, OutOfScope)
    assert reading.answer.reason == f"this study asks to be declined. {NOTE}"
    assert NOTE in reading.summary
    (document,) = reading.documents
    assert NOTE.encode() in document.content
