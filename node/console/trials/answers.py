"""What a trial answered, as the page of a study shows answers; and the images of a trial for the viewer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ainode.node.console.answers import Answer, answer_of
from ainode.node.domain import UID, DocumentKind, InstanceRef, JobState, counted
from ainode.node.keeping.records import Job, KeptDocument
from ainode.node.offline.trials import Trial

VOLUMES: Final = frozenset({"CT", "MR", "PT"})
"""modalities of images in which somebody can point at a position in the patient"""
NO_IMAGES: Final = frozenset({"SR", "RTSTRUCT", "SEG", "PR", "KO"})


@dataclass(frozen=True, slots=True)
class TrialImages:
    """The images of a study that is tried."""

    study: str
    date: int
    """the date of the form, from 1"""
    series: tuple[tuple[str, str, int], ...]
    """address below which the viewer asks, modality and number of images of each series, the longest first"""

    @property
    def is_volume(self) -> bool:
        """Return whether somebody can point at a position in the patient."""
        return any(modality in VOLUMES for _, modality, _ in self.series)


def answers(trial: Trial, content: Mapping[str, Any]) -> tuple[Answer, ...]:
    """Return the answers of a trial; the identifier of an answer's job is the number of the reading."""
    return tuple(answer(trial, entry) for entry in content["readings"])


def answer(trial: Trial, entry: Mapping[str, Any]) -> Answer:
    """Return the answer of a reading."""
    path, number = trial.folder / entry["folder"], reading_number(entry)
    result = path / "result.json"
    is_refusal = entry.get("is_refusal", False)
    state = JobState.OUT_OF_SCOPE if is_refusal else JobState.REPORTED
    now = datetime.now(UTC)
    job = Job(
        id=number,
        study_instance_uid=UID(entry["study_instance_uid"]),
        route=entry["route"],
        handler=entry["handler"],
        content={},
        created_at=now,
        queued_at=now,
        destinations=(),
        state=JobState.FAILED if entry["error"] else state,
        reason=trial.shown(entry["error"]) or (entry["answer"] if is_refusal else ""),
        result=result.read_text("utf-8") if result.exists() else "",
        seconds=entry.get("seconds", 0.0),
    )
    return answer_of(job, documents(trial, entry), ())


def reading_number(entry: Mapping[str, Any]) -> str:
    """Return the number of a reading, which is the name of its folder."""
    return str(entry["folder"]).rpartition("/")[2]


def documents(trial: Trial, entry: Mapping[str, Any]) -> tuple[KeptDocument, ...]:
    """Return the DICOM documents of a reading, in the order of sending."""
    return tuple(
        KeptDocument(
            job=reading_number(entry),
            ref=InstanceRef(
                UID(document["study_instance_uid"]),
                UID(document["series_instance_uid"]),
                UID(document["sop_class_uid"]),
                UID(document["sop_instance_uid"]),
            ),
            kind=DocumentKind(document["kind"]),
            path=trial.folder / entry["folder"] / document["name"],
            sha256="",
        )
        for document in entry.get("documents", ())
    )


def images(content: Mapping[str, Any], address: str) -> Sequence[TrialImages]:
    """Return the images of each study; reports and contours that came along are no images."""
    return [
        TrialImages(
            study["study_instance_uid"],
            study["date"],
            tuple(
                (
                    f"{address}/series/{series['series_instance_uid']}",
                    series["modality"],
                    len(series["files"]),
                )
                for series in sorted(study["series"], key=lambda series: -len(series["files"]))
                if series["modality"] not in NO_IMAGES
            ),
        )
        for study in content["studies"]
    ]


def series_names(content: Mapping[str, Any]) -> dict[str, str]:
    """Return what a sentence calls each series: its place in its study, modality and number of images."""
    return {
        series["series_instance_uid"]: (
            f"{place} of {len(study['series'])} ({series['modality']}, {counted(len(series['files']), 'image')})"
        )
        for study in content["studies"]
        for place, series in enumerate(study["series"], start=1)
    }


def image_paths(trial: Trial, series: str) -> dict[str, Path]:
    """Return the files of a series of a trial by SOP Instance UID."""
    return {
        uid: trial.folder / file
        for study in trial.content()["studies"]
        for entry in study["series"]
        if entry["series_instance_uid"] == series
        for uid, file in entry["files"].items()
    }
