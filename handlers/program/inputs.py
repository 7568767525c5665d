"""What a program is given: images as files, and `task.json` that says what they are."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ainode.handlers.program.description import Start
from ainode.handlers.program.nifti import nifti_bytes
from ainode.node.domain import Instance, Selection
from ainode.node.imaging.geometry import Stack, volume

TASK = "task.json"
_UNFIT = re.compile(r"[^0-9.]")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What lies in the folder of a run."""

    images: Mapping[str, Instance]
    """by the name of the file that the program knows; a volume has the names too, and no files of them"""


def give(selection: Selection, slices: Stack | None, start: Start, folder: Path, model: Mapping[str, str]) -> Inputs:
    """Write the images of a selection, and what is said of them, into a folder; `model` has name and version.

    Raises: BrokenSeries if a volume cannot be decoded; OSError.
    """
    instances = slices.instances if slices else selection.instances
    if start.layout == "mercure":
        inputs = Inputs({_mercure_name(instance): instance for instance in instances})
        task = _mercure_task(selection, instances, start, model)
    else:
        inputs = Inputs({f"{number:05d}.dcm": instance for number, instance in enumerate(instances, start=1)})
        task = _task(selection, inputs, start, model)
    if start.input_form == "nifti" and slices:
        _write(folder / "image.nii", nifti_bytes(volume(slices)))
    else:
        for name, instance in inputs.images.items():
            _copy(instance.path, folder / name)
            if start.layout == "mercure":
                tags = {key: value for key, value in instance.header.items() if isinstance(value, str | int | float)}
                _write(folder / f"{name.removesuffix('.dcm')}.tags", json.dumps(tags).encode())
    _write(folder / TASK, json.dumps(task, indent=1).encode())
    return inputs


def _task(selection: Selection, inputs: Inputs, start: Start, model: Mapping[str, str]) -> Mapping[str, object]:
    return {
        **model,
        "input": start.input_form,
        "study_instance_uid": selection.study_instance_uid,
        "images": [
            {
                "name": name,
                "series_instance_uid": instance.ref.series_instance_uid,
                "sop_instance_uid": instance.ref.sop_instance_uid,
                "sop_class_uid": instance.ref.sop_class_uid,
            }
            for name, instance in inputs.images.items()
        ],
        "settings": start.settings,
    }


def _mercure_task(
    selection: Selection, instances: Sequence[Instance], start: Start, model: Mapping[str, str]
) -> Mapping[str, object]:
    """Return a task as mercure's modules expect it (docs of mercure, Module Development: process, settings)."""
    series = {instance.ref.series_instance_uid for instance in instances}
    is_series = len(series) == 1
    uid = next(iter(series)) if is_series else selection.study_instance_uid
    return {
        "id": uid,
        "info": {"action": "process", "uid": uid, "uid_type": "series" if is_series else "study"},
        "process": {"module_name": model["model"], "settings": start.settings},
    }


def _mercure_name(instance: Instance) -> str:
    """Return the name of an image as mercure's modules take it apart: before and after the `#`."""
    parts = (_UNFIT.sub("", str(uid)) for uid in (instance.ref.series_instance_uid, instance.ref.sop_instance_uid))
    return f"{'#'.join(parts)}.dcm"


def _copy(source: Path, target: Path) -> None:
    """Copy a file for a program of another user; the program may change its copy, and no file of the node."""
    shutil.copyfile(source, target)
    target.chmod(0o666)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o644)
