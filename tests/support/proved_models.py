"""Tiny models for the kit, chosen by the name of the folder of their networks: careful, careless, forgetful, boastful.

The careful one passes. The careless one has a number for each mistake, named as the mistake, and refuses nothing. The
forgetful one answers by what it read before. The boastful one says what no report may say.
"""

import os
from collections.abc import Sequence
from typing import Final

import numpy as np

from ainode.node.domain import (
    Algorithm,
    Code,
    Finding,
    Header,
    Instance,
    Measurement,
    OutOfScope,
    Region,
    Result,
    Selection,
    Study,
    SyntheticStudy,
    Verdict,
    WeightsStatus,
    refs,
)
from ainode.node.imaging.pixels import display_values, modality_values
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.testing import ct, noise

CAREFUL, CARELESS, FORGETFUL, BOASTFUL = "careful", "careless", "forgetful", "boastful"
_PROBABILITY: Final = Code("122157", "DCM", "Probability")
_PERCENT: Final = Code("%", "UCUM", "%")
_BRIGHT: Final = Code("263654008", "SCT", "Abnormal")
_CHEST: Final = Code("816094009", "SCT", "Chest")
_IMAGING: Final = Code("363679005", "SCT", "Imaging procedure")
_CHEST_HEADER: Final[Header] = {"BodyPartExamined": "CHEST"}
_LARGEST_MM: Final = 3.0
_LEAST_SIDE: Final = 32
_SLICES: Final = 4
FILM_SEED: Final = 1
"""the seed of a radiograph; the study of another seed is a CT"""


class Careful:
    """Reads CT and radiographs of the chest, and finds the brightest pixel."""

    def select(self, study: Study) -> Selection | OutOfScope:
        series = tuple(item for item in study.series if item.modality in {"CT", "DX"})
        if not series:
            return OutOfScope("the study holds neither CT nor DX", "wrong-modality")
        selection = Selection(study.study_instance_uid, series)
        return _misfit(selection.instances) or selection

    def read(self, selection: Selection) -> Result | OutOfScope:
        images = sorted(selection.instances, key=lambda image: image.ref.sop_instance_uid)
        pictures = [modality_values(image.path) if _is_ct(image) else display_values(image.path) for image in images]
        if any(picture.min() == picture.max() for picture in pictures):
            return OutOfScope("an image is uniform", "unusable-pixels")
        brightest = max(range(len(images)), key=lambda index: pictures[index].max())
        row, column = np.unravel_index(int(np.argmax(pictures[brightest])), pictures[brightest].shape)
        box = Region.box(
            images[brightest].ref, left=float(column), top=float(row), right=float(column) + 1, bottom=float(row) + 1
        )
        mean = float(np.mean([picture.astype(np.float64).mean() for picture in pictures]))
        return _result(selection, round(1 / (1 + np.exp(-mean / 1000)), 9), box)

    def weights(self) -> tuple[str, ...]:
        return ()

    def demonstration(self, seed: int) -> SyntheticStudy:
        if seed == FILM_SEED:
            film: Header = {**_CHEST_HEADER, "WindowCenter": 2000.0, "WindowWidth": 3000.0}
            return SyntheticStudy((noise(64, 48, seed=seed, **film),))  # type: ignore[arg-type]
        values = np.random.default_rng(seed).uniform(-900, 900, (_SLICES, 48, 40)).astype(np.float32)
        return SyntheticStudy(ct(values, (2.0, 1.0, 1.5), frame="kit", header=_CHEST_HEADER))


def _is_ct(image: Instance) -> bool:
    return image.text("Modality") == "CT"


def _misfit(images: Sequence[Instance]) -> OutOfScope | None:
    first = images[0]
    spacing = first.header.get("PixelSpacing", (1.0, 1.0))
    faults = {
        "wrong-body-part": first.text("BodyPartExamined") != "CHEST",
        "too-few-slices": _is_ct(first) and len(images) < _SLICES,
        "not-hounsfield": _is_ct(first) and "RescaleSlope" not in first.header,
        "wrong-size": isinstance(spacing, tuple) and float(spacing[0]) > _LARGEST_MM,  # type: ignore[arg-type]
        "too-small": int(first.header.get("Rows", 0)) < _LEAST_SIDE,  # type: ignore[arg-type]
    }
    code = next((code for code, is_misfit in faults.items() if is_misfit), "")
    return OutOfScope(f"the study does not fit: {code}", code, refs(images)) if code else None


def _result(selection: Selection, probability: float, box: Region, **scores: float) -> Result:
    images = tuple(sorted(refs(selection.instances), key=lambda image: image.sop_instance_uid))
    certainty = Measurement(_PROBABILITY, round(100 * probability, 1), _PERCENT, images[:1])
    verdict = Verdict.of(probability, 0.5)
    finding = Finding("brightness", _BRIGHT, _CHEST, (certainty,), images[:1], region=box, verdict=verdict)
    algorithm = Algorithm("brightness", "1", "", WeightsStatus.SITE)
    values = {"probability": probability, **scores}
    return Result(
        selection.study_instance_uid, algorithm, "Brightness", _IMAGING, (finding,), (), images, images[:1], values
    )


class Careless(Careful):
    """Makes every mistake, and refuses nothing."""

    def select(self, study: Study) -> Selection | OutOfScope:
        return Selection(study.study_instance_uid, study.series)

    def read(self, selection: Selection) -> Result | OutOfScope:
        images = selection.instances
        first = images[0]
        stored = modality_values(first.path)
        box = Region.box(first.ref, left=0, top=0, right=1, bottom=1)
        return _result(
            selection,
            0.7,
            box,
            **{
                "by the name of a file": float(sum(map(ord, first.path.name))),
                "by the folders": float(len(first.path.parts)),
                "by Instance Number": float(first.header.get("InstanceNumber", 0)),  # type: ignore[arg-type]
                "by the number of images": float(len(images)),
                "by the transfer syntax": float(sum(map(ord, first.transfer_syntax_uid))),
                "by the first stored pixel": float(stored[0, 0]),
            },
        )


class Forgetful(Careful):
    """Answers by the process and by what it read before."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, selection: Selection) -> Result | OutOfScope:
        self._count += 1
        box = Region.box(selection.instances[0].ref, left=0, top=0, right=1, bottom=1)
        return _result(selection, 0.7, box, count=float(self._count), process=float(os.getpid()))


class Boastful(Careful):
    """Says what no report may say."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        first = selection.instances[0]
        box = Region.box(first.ref, left=0, top=0, right=1, bottom=1)
        result = _result(selection, 0.7, box)
        unit = Code("percent", "SCT", "percent")
        wrong = Finding(
            "brightness",
            Code("12345678", "SCT", "No concept"),
            _CHEST,
            (Measurement(_PROBABILITY, 12.0, unit, (first.ref,)),),
            (first.ref,),
            label=f"of {first.patient.patient_id}",
            verdict=Verdict.of(0.7, 0.5),
        )
        return Result(
            result.study_instance_uid,
            result.algorithm,
            result.title,
            result.procedure,
            (wrong,),
            (),
            result.evidence,
            result.key_images,
        )


def build(environment: ModelEnvironment) -> Careful:
    models = {CARELESS: Careless, FORGETFUL: Forgetful, BOASTFUL: Boastful}
    return models.get(environment.cache.name, Careful)()
