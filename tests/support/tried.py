"""Trials of a console at each of their ends, with long names and long reasons; nothing is read."""

import json
import shutil
from dataclasses import asdict

from ainode.node.offline.trial_question import CONTENT, Stage, TrialOptions
from ainode.node.offline.trials import Trial
from support.web_bench import Bench
from support.whole_console import FAULT, HANDLER, READ, long_uid

ANSWERED, SHOWN, REFUSED = "a" * 32, "b" * 32, "c" * 32
"""identifiers of trials: with an answer and a failure, with files shown alone, and with no file that can be read"""
_ROUTE = "a-route-that-a-person-named-for-every-department"
_NAME = "files-of-a-study-that-somebody-exported/with_a_name_that_is_longer_than_the_screen_of_a_phone.dcm"


def try_files(bench: Bench, owner: str) -> None:
    """Leave trials as their process leaves them."""
    answered, shown, refused = (bench.parts.web.trials.open(owner, name) for name in (ANSWERED, SHOWN, REFUSED))
    for trial in (answered, shown):
        _images(bench, trial)
    failure = {"study_instance_uid": READ, "route": _ROUTE, "handler": HANDLER, "folder": "result/2", "error": FAULT}
    _content(answered, readings=[_reading(bench, answered), failure])
    _content(shown, readings=[])
    shown.options = TrialOptions(is_look=True)
    for trial in (answered, shown):
        trial.set(stage=Stage.DONE)
    bench.parts.web.trials.fail(refused, f"no file is read: {_NAME}: {FAULT}")


def _images(bench: Bench, trial: Trial) -> None:
    (trial.folder / "files").mkdir()
    (image,) = bench.catalog.instances(READ)
    shutil.copy(image.path, trial.folder / "files" / "000000")


def _reading(bench: Bench, trial: Trial) -> dict[str, object]:
    """Return the reading that the study has in the console, with its documents."""
    job = max(bench.ledger.jobs(study=READ), key=lambda job: len(bench.ledger.documents(job.id)))
    folder = trial.folder / "result" / "1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(job.result, "utf-8")
    documents = []
    for number, document in enumerate(bench.ledger.documents(job.id), start=1):
        name = f"document-{number}.dcm"
        shutil.copy(document.path, folder / name)
        documents.append({"name": name, "kind": document.kind.value, **asdict(document.ref)})
    names = {"study_instance_uid": READ, "route": _ROUTE, "handler": HANDLER, "folder": "result/1"}
    return {**names, "error": "", "answer": "", "is_refusal": False, "seconds": 9.0, "documents": documents}


def _content(trial: Trial, *, readings: list[dict[str, object]]) -> None:
    files = {long_uid(1, 1): "files/000000"}
    series = {"series_instance_uid": long_uid(1), "modality": "CT", "files": files}
    content = {
        "studies": [{"study_instance_uid": READ, "date": 1, "series": [series]}],
        "readings": readings,
        "unread": [{"path": _NAME, "reason": FAULT}],
        "unread_count": 1,
    }
    (trial.folder / CONTENT).write_text(json.dumps(content), "utf-8")
