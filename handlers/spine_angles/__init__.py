"""How curved is this spine? Vertebrae of a frontal radiograph, and the Cobb angles between them."""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ainode.handlers import (
    IMAGING_PROCEDURE,
    algorithm,
    each_read,
    grouped,
    image_refusal,
    loaded,
    misfit,
    readable,
    unread,
)
from ainode.handlers.spine_angles.findings import Film
from ainode.models.errors import UnusablePicture
from ainode.models.spine_vertebrae.card import Card, read_card
from ainode.node.domain import (
    Algorithm,
    Instance,
    OutOfScope,
    Result,
    Selection,
    Study,
    SyntheticImage,
    SyntheticStudy,
    Value,
    refs,
)
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.free_text import as_code
from ainode.node.imaging.picture_kind import no_picture
from ainode.node.imaging.pixel_shape import height_per_width, pixel_width
from ainode.node.imaging.pixels import display_values
from ainode.node.imaging.radiograph_view import not_from_the_front, not_upright
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.benchmarking import Table
    from ainode.models.spine_vertebrae.model import Prediction, VertebraModel

PACKAGES = ("cv2", "openvino", "safetensors", "scipy", "torch")
"""what reading needs beside the node's own packages"""
PICTURES = "radiograph"
"""what a picture file that `ainode read` is given shows"""

_SMALLEST_SIDE = 256
_DEMONSTRATION = (1400, 560)
# The first seed of a demonstration: this spine has curves that can be seen, and its marker is on the patient's right.
_CURVED = 11
_REMEDY = "and may miss a real one: make weights of real films by `ainode train spine_vertebrae`"
# A radiograph of a baby's spine is wider, one of three joined films narrower.
_FIELD_MM = (40.0, 1500.0)


class SpineAngles:
    """The handler: loads its network when it is prepared, else at the first study it reads."""

    def __init__(self, environment: ModelEnvironment) -> None:
        self._environment = environment
        self._card = read_card()

    def weights(self) -> tuple[str, ...]:
        """Return the name of a site's weights; where no manifest names them, of the synthetic ones that ship."""
        names = {entry.name for entry in self._environment.weights.entries()}
        return (self._card.weights if self._card.weights in names else self._card.shipped,)

    def paths(self) -> dict[str, Path]:
        """Return the verified file of the weights by their name."""
        return {name: self._environment.weights.verified(name) for name in self.weights()}

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the frontal images, by their headers."""
        return readable(study, lambda instance: _refusal(instance, self._card))

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return curves and vertebrae of every image; a picture that shows no spine from the front is out of scope."""
        predictions, unusable = each_read(selection.instances, self._predicted)
        if not predictions:
            return grouped(unusable)
        films = [
            Film(number, instance, prediction, self._reliability, pixel_width(instance.header))
            for number, (instance, prediction) in enumerate(predictions, start=1)
        ]
        return self._result(selection, films, [*selection.declined.values(), *unusable])

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded network."""
        return (self._model,)

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic whole spine with a curve."""
        from ainode.models.phantoms.spine import spine_radiograph  # noqa: PLC0415

        rows, columns = _DEMONSTRATION
        random = np.random.default_rng(_CURVED + seed)
        drawn = spine_radiograph(random, rows=rows, columns=columns, view="AP", region="WHOLE", abnormal=False)
        spacing = (drawn.mm_per_pixel, drawn.mm_per_pixel)
        header: dict[str, Value] = {
            "BodyPartExamined": "WHOLESPINE",
            "ViewPosition": "AP",
            "PatientOrientation": ("L", "F"),
            "SeriesDescription": "Synthetic whole spine AP",
            "ImagerPixelSpacing": spacing,
            "PixelSpacing": spacing,
        }
        return SyntheticStudy((SyntheticImage(rows, columns, drawn.image.astype("<u2").tobytes(), header),))

    def _predicted(self, instance: Instance) -> "Prediction":
        pixels = display_values(instance.path)
        prediction = self._model.predict(pixels, height_per_width=height_per_width(instance.header))
        if reason := _no_spine(prediction, self._card):
            remedy = f"; {self._reliability}, {_REMEDY}" if self._is_untrained else ""
            raise UnusablePicture(f"the picture shows no spine from the front: {reason}{remedy}")
        return prediction

    @cached_property
    def _model(self) -> "VertebraModel":
        from ainode.models.spine_vertebrae.model import VertebraModel  # noqa: PLC0415

        (path,) = self.paths().values()
        return loaded(VertebraModel.load, path, name=self._card.name, environment=self._environment)

    @property
    def _is_untrained(self) -> bool:
        """Return whether the weights are those that ship, which may miss every spine of a patient."""
        return self.weights() == (self._card.shipped,)

    @property
    def _reliability(self) -> str:
        """Return how far the weights may be trusted: those that ship have seen no film of a patient."""
        if self._is_untrained:
            return "these weights have seen drawn spines alone"
        return f"weights of this training were off by {self._card.off_degrees:g} degrees in the mean of test films"

    def _result(self, selection: Selection, films: Sequence[Film], refusals: Collection[OutOfScope]) -> Result:
        evidence = refs(film.instance for film in films)
        worst = max(films, key=lambda film: film.largest.angle)
        return Result(
            study_instance_uid=selection.study_instance_uid,
            algorithm=self._algorithm(films, refusals),
            title="Spine angles",
            procedure=IMAGING_PROCEDURE,
            findings=tuple(finding for film in films for finding in film.findings()),
            captures=tuple(film.capture() for film in films),
            evidence=evidence,
            key_images=evidence,
            scores={name: value for film in films for name, value in film.scores().items()},
            summary=worst.summary,
        )

    def _algorithm(self, films: Sequence[Film], refusals: Collection[OutOfScope]) -> Algorithm:
        card = self._card
        sides = {f"sides of image {film.number}": str(film.sides) for film in films}
        places = {f"millimeters of image {film.number}": str(film.width) for film in films if film.width}
        parameters = {
            "spine": _needed(card),
            "view": f"from the front where the score of the view is {card.least_frontal:g} or more",
            "angles": "between the middle lines of the end vertebrae",
            "levels": "17 vertebrae are T1 to L5; fewer are named as the network counts them",
            "precision": f"{self._model.network.precision} on {self._model.network.device}",
            **sides,
            **places,
            **unread(refusals),
        }
        return algorithm(card, self._environment.weights, weights=self.weights(), parameters=parameters)


def _no_spine(prediction: "Prediction", card: Card) -> str:
    """Return why a picture is no spine from the front with the head above, '' if it is one."""
    if not prediction.is_frontal(card):
        return (
            f"it looks like another view or another part of the body, {prediction.frontal:.2f} on a scale from 0 to 1 "
            f"(from the front); needed are {card.least_frontal:g}"
        )
    if not prediction.is_chain(card):
        found = f"{len(prediction.peaks)} vertebrae in a row with a score of {prediction.score:.2f}"
        return f"{found}; needed are {_needed(card)}"
    if not prediction.is_upright(card):
        return (
            f"from one vertebra to the next below the count rises by {prediction.rise:.2f} instead of 1, as on a "
            f"picture that is upside down; needed are {card.least_rise:g}"
        )
    return ""


def _needed(card: Card) -> str:
    """Return what makes a spine, in words."""
    return (
        f"{card.least_vertebrae} vertebrae in a row with a score of {card.least_score:g}, {card.wide_score:g} where "
        f"the picture is not cropped to the spine, {card.whole_score:g} from {card.whole_vertebrae} vertebrae on"
    )


def _refusal(instance: Instance, card: Card) -> OutOfScope | None:
    """Return why the header says that this image is not for the model; None if nothing speaks against it."""
    part = body_part(instance.header)
    if instance.text("Modality") not in card.modality:
        reason, code = f"Modality is {as_code(instance.text('Modality'))}, CR or DX is read", "wrong-modality"
    elif not set(part.parts) & set(card.body_part):
        reason, code = f"the body part is {part}; the model reads {', '.join(card.body_part)}", "wrong-body-part"
    elif view := not_from_the_front(instance.header, card.views):
        reason, code = f"{view}; angles are measured on {' and '.join(card.views)}", "wrong-view"
    elif turned := not_upright(instance.header):
        reason, code = f"{turned}; turn it at its source", "not-upright"
    elif size := _field_fault(instance):
        reason, code = size, "impossible-pixel-size"
    elif problem := no_picture(instance) or misfit(instance, _SMALLEST_SIDE):
        reason, code = problem
    else:
        return None
    return image_refusal(instance, reason, code)


def _field_fault(instance: Instance) -> str | None:
    """Return why the size of a pixel cannot be true: it makes a field that no radiograph has."""
    if width := pixel_width(instance.header):
        field_mm = width.millimeters * float(instance.text("Columns") or 0)
        if not _FIELD_MM[0] <= field_mm <= _FIELD_MM[1]:
            return f"{width.keyword} makes the image {field_mm:.3g} mm wide; correct the header at its source"
    return None


def build(environment: ModelEnvironment) -> SpineAngles:
    """Return the handler."""
    return SpineAngles(environment)


def benchmark(environment: ModelEnvironment, *, full_size: bool, runs: int) -> "Table":  # noqa: ARG001  # one size
    """Return head and rows of how long a whole reading takes, ours beside eager PyTorch."""
    from ainode.models.spine_vertebrae.benchmark import benchmark as measured  # noqa: PLC0415

    (path,) = SpineAngles(environment).paths().values()
    return measured(path, cache=environment.cache, runs=runs)
