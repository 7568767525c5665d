"""The answer of POST /upload on one radiograph, in the words of the spine system that scripts were written for.

The scripts sent the file themselves, so that the answer may name the patient as the file does.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw
from pydicom import dcmread

from ainode.node.domain import OutOfScope, Reading, Study, probability_text
from ainode.node.imaging.pixels import picture
from ainode.node.offline.trial_question import UPLOAD_ANSWER

_IMAGE: Final = "image 1 "
"""begins the scores and findings of the first image"""
_OWN_SCORE: Final = "probability"
_COLOR: Final = (255, 196, 0)
_RESEARCH: Final = "Research use only; not for diagnosis."
_METADATA: Final = {
    "patient_id": "PatientID",
    "study_date": "StudyDate",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "view_position": "ViewPosition",
}


def write(folder: Path, study: Study, reading: Reading) -> None:
    """Write the answer on the first image of a study."""
    if isinstance(reading.answer, OutOfScope):
        values: Mapping[str, object] = error(f"the model does not read this image: {reading.answer.told}")
    else:
        summary = json.loads(reading.summary)
        image = summary["findings"][0]["evidence"][0]
        path = next(instance.path for instance in study.instances if instance.ref.sop_instance_uid == image)
        values = _success(path, summary, image)
    (folder / UPLOAD_ANSWER).write_text(json.dumps(values), "utf-8")


def error(message: str) -> Mapping[str, object]:
    """Return the answer on a file that is not read."""
    return {"status": "error", "message": message}


def _success(path: Path, summary: Mapping[str, Any], image: str) -> Mapping[str, object]:
    whole, *boxes = summary["findings"]
    verdict = whole["verdict"]
    detections = [_detection(box) for box in boxes if box["region"] and box["region"]["sop_instance_uid"] == image]
    probability = verdict["probability"]
    networks = {
        name.removeprefix(_IMAGE): value
        for name, value in summary["scores"].items()
        if name.startswith(_IMAGE) and name != f"{_IMAGE}{_OWN_SCORE}"
    }
    algorithm = summary["algorithm"]
    return {
        "status": "success",
        "diagnosis": "Abnormal" if probability >= verdict["threshold"] else "Normal",
        "confidence": round(max(probability, 1 - probability) * 100, 2),
        "ensemble_prediction": networks,
        "probability": probability,
        "threshold": verdict["threshold"],
        "detections": detections,
        "metadata": _metadata(path),
        "annotated_image": _annotated(path, detections),
        "model": {
            "name": algorithm["name"],
            "version": algorithm["version"],
            "weights_status": algorithm["weights_status"],
            "known_limits": algorithm["known_limits"],
            "not_for": algorithm["not_for"],
        },
        "notice": _RESEARCH,
    }


def _detection(box: Mapping[str, Any]) -> Mapping[str, object]:
    """Return a box in pixels: left, top, right, bottom."""
    columns, rows = zip(*box["region"]["points"], strict=True)
    name = box["label"].rpartition(" ")[0]
    return {
        "class": name,
        "confidence": box["verdict"]["probability"],
        "bbox": [min(columns), min(rows), max(columns), max(rows)],
    }


def _metadata(path: Path) -> Mapping[str, object]:
    header = dcmread(path, stop_before_pixels=True)
    return {
        **{name: str(header.get(keyword, "")) for name, keyword in _METADATA.items()},
        "image_size": [int(header.Columns), int(header.Rows)],
    }


def _annotated(path: Path, detections: Sequence[Mapping[str, Any]]) -> str:
    """Return the image with its boxes, in its own size, as a data URI of a PNG."""
    image = Image.fromarray(picture(path)).convert("RGB")
    canvas = ImageDraw.Draw(image)
    size = max(image.size) // 60
    for detection in detections:
        left, top, right, bottom = detection["bbox"]
        canvas.rectangle((left, top, right, bottom), outline=_COLOR, width=max(1, size // 8))
        words = f"{detection['class']} {probability_text(detection['confidence'])}"
        canvas.text((left, max(0, top - size)), words, fill=_COLOR, font_size=size)
    canvas.text((size, image.height - 2 * size), _RESEARCH, fill=_COLOR, font_size=size)
    content = io.BytesIO()
    image.save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
