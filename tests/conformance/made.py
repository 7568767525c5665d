"""Source images and results for the tests of documents."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset
from support import instance_ref

from ainode.node import testing
from ainode.node.domain import (
    UID,
    Algorithm,
    Capture,
    Code,
    DocumentContext,
    DocumentKind,
    Finding,
    InstanceRef,
    Measurement,
    Region,
    Result,
    Saliency,
    WeightsStatus,
)

SPINE = Code("421060004", "SCT", "Spine")
ABNORMAL = Code("263654008", "SCT", "Abnormal")
LESION = Code("52988006", "SCT", "Lesion")
PERCENT = Code("%", "UCUM", "Percent")
PROBABILITY = Code("122157", "DCM", "Probability")

CONTEXT = DocumentContext(
    created=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
    device_uid=UID("2.25.1234567890"),
    device_name="test-node",
    software_versions=("ainode 0.1.0",),
    configuration_hash="0123456789abcdef",
)
EVERYTHING = replace(CONTEXT, optional=(DocumentKind.PRESENTATION_STATE, DocumentKind.SEGMENTATION_FRACTIONAL))
"""with the optional documents whose class the validators know"""
ALGORITHM = Algorithm(
    name="spine_radiograph",
    version="1.0.0",
    weights_sha256="5" * 64,
    weights_status=WeightsStatus.DEMONSTRATION,
    parameters=(("threshold", "0.449"), ("precision", "f32")),
)


def source(folder: Path, *, rows: int = 300, columns: int = 200, **header: object) -> Path:
    """Write a synthetic radiograph; a header value of None takes the element out."""
    data_set = testing.dataset(testing.noise(rows, columns), study=f"study of {folder.name}")
    data_set.BodyPartExamined = "TSPINE"
    for keyword, value in header.items():
        if value is None:
            del data_set[keyword]
        else:
            setattr(data_set, keyword, value)
    return saved(data_set, folder)


def saved(data_set: Dataset, folder: Path) -> Path:
    path = folder / "source.dcm"
    data_set.save_as(path, enforce_file_format=True)
    return path


def box(image: InstanceRef, number: int) -> Region:
    """Return the place of box `number`: at half pixels, inside every image of 16 x 16 and more."""
    return Region.box(image, left=1.5 + number, top=0.25 + 2 * number, right=9.5 + number, bottom=4 + 2 * number)


def a_finding(number: int, image: InstanceRef, *, region: Region | None = None) -> Finding:
    percent = 90.0 - number
    measurement = Measurement(PROBABILITY, percent, PERCENT, (image,))
    concept, name = (LESION, f"box {number}") if region else (ABNORMAL, "whole image")
    return Finding(name, concept, SPINE, (measurement,), (image,), region, label=f"{concept.meaning} {percent:.0f} %")


def a_result(path: Path, *, boxes: int = 0, algorithm: Algorithm = ALGORITHM) -> Result:
    """Return what a model might say of the image at `path`: abnormal, with so many boxes."""
    image = instance_ref(path)
    regions = tuple(a_finding(number, image, region=box(image, number)) for number in range(1, boxes + 1))
    findings = (a_finding(0, image), *regions)
    heat = np.outer(np.hanning(9), np.hanning(7)) * 255
    capture = Capture(
        image=image,
        title="Spine radiograph",
        captions=("Abnormal 90 %",),
        saliency=Saliency(9, 7, heat.astype(np.uint8).tobytes()),
        findings=findings,
    )
    return Result(
        study_instance_uid=image.study_instance_uid,
        algorithm=algorithm,
        title="Spine radiograph",
        procedure=Code("363679005", "SCT", "Imaging procedure"),
        findings=findings,
        captures=(capture,),
        evidence=(image,),
        key_images=(image,),
        scores={"probability": 0.9},
    )


def sources_of(*paths: Path) -> dict[UID, Path]:
    return {instance_ref(path).sop_instance_uid: path for path in paths}


def old_archive() -> DocumentContext:
    return replace(EVERYTHING, comprehensive_3d=False)
