"""What a node asks the process of a trial, and the steps that the process tells on its way."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ainode.node.domain import Position
from ainode.node.settings import Settings

SLOTS: Final = ("files", "files_2", "files_3")
"""the fields of a form with the files of a date, and the folders of the files"""
CONTENT: Final = "trial.json"
"""the file in the folder of a trial with its studies, readings and unread files"""
UPLOAD_ANSWER: Final = "upload.json"
_NUMBER: Final = r"[-+]?\d{1,7}(\.\d{0,20})?"
_POINT: Final = re.compile(rf"\s*({_NUMBER})\s*[,; ]\s*({_NUMBER})\s*[,; ]\s*({_NUMBER})\s*")
_BODY_PART: Final = re.compile(r"[A-Z0-9 _]{0,16}")
_HANDLER: Final = re.compile(r"[A-Za-z0-9_.]{0,100}")


class Stage(StrEnum):
    """How far a trial is."""

    UPLOADING = "uploading"
    WAITING = "waiting"
    CONVERTING = "converting"
    READING = "reading"
    DONE = "done"
    FAILED = "failed"
    KEPT = "kept"
    """taken into the node by a person; nothing else of the trial is left"""

    @property
    def is_final(self) -> bool:
        """Whether the trial goes on no more by itself."""
        return self in {Stage.DONE, Stage.FAILED, Stage.KEPT}


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """How a person wants files to be read."""

    handler: str = ""
    """'' for the handlers of the routes that match"""
    points: tuple[Position | None, ...] = ()
    """of each date, None where nobody points at anything"""
    is_index: bool = False
    """whether the points are voxels i, j, k, and not LPS mm"""
    body_part: str = ""
    is_look: bool = False
    """whether the files are shown alone, and not read"""
    is_example: bool = False
    """whether the synthetic study of the handler is read instead of files"""
    has_upload_answer: bool = False
    """whether the answer of POST /upload is made, too"""


@dataclass(frozen=True, slots=True)
class TrialQuestion:
    """What the process of a trial has to do."""

    folder: Path
    settings: Settings
    options: TrialOptions


def trial_options(
    handler: str, points: Sequence[str], *, point_is: str = "mm", body_part: str = "", **flags: bool
) -> TrialOptions:
    """Return the options of a form; `flags` are further fields of the options.

    Raises: ValueError if a text of the form is none of those that the form asks for.
    """
    if point_is not in {"mm", "index"}:
        raise ValueError("point_is is neither mm nor index")
    if not _BODY_PART.fullmatch(body_part.upper()):
        raise ValueError("body_part is no term of up to 16 letters, as CHEST, ABDOMEN, HAND")
    if not _HANDLER.fullmatch(handler):
        raise ValueError("model is no name of a handler")
    return TrialOptions(
        handler=handler,
        points=tuple(map(_point, points)),
        is_index=point_is == "index",
        body_part=body_part.upper(),
        **flags,
    )


def _point(text: str) -> Position | None:
    """Return the three numbers of a text, None for an empty text.

    Raises: ValueError.
    """
    if not text.strip():
        return None
    match = _POINT.fullmatch(text)
    if match is None:
        raise ValueError("a point is no three numbers, as -95.7, -145, -66.1")
    return float(match[1]), float(match[3]), float(match[5])
