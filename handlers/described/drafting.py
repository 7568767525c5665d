"""The first draft of a `model.toml`: what a network's file tells, and a question wherever it tells nothing.

A question begins with TODO; a description with a question is not read.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ainode.models.described.facts import Facts, facts
from ainode.models.errors import ModelError
from ainode.node.errors import ConfigError

KINDS = ("classify", "detect", "landmarks", "segment")
_MOST_CLASSES = 40
_ROWS_AND_COLUMNS, _VOLUME, _COLOR = 2, 3, 3


@dataclass(frozen=True, slots=True)
class Draft:
    """A description to be completed, and the files beside the network's that it needs."""

    text: str
    companions: tuple[str, ...]
    reason: str
    """which handler is to read, why, and how to have another"""

    @property
    def questions(self) -> tuple[str, ...]:
        """Return each line with a question, with its number."""
        lines = enumerate(self.text.splitlines(), start=1)
        return tuple(f"line {number}: {line.split('#')[0].strip()}" for number, line in lines if '"TODO' in line)


def draft(source: Path, kind: str, digests: dict[str, str]) -> Draft:
    """Return the draft of the description of a file; `kind` "" is what the file looks like.

    `digests` are the sha256 of the file and of those beside it, by name.
    Raises: ConfigError if the file holds no network that can be described.
    """
    facts = facts_of(source)
    reason = _reason(kind, facts)
    kind = kind or facts.kind
    if kind not in KINDS:
        raise ConfigError(f"--kind {kind}: it is one of {', '.join(KINDS)}")
    lines = [
        *_head(source, kind, facts, digests),
        *_takes(kind, facts),
        *_input(facts),
        *{"classify": _classes, "detect": _boxes, "landmarks": _points, "segment": _segments}[kind](facts),
    ]
    return Draft("\n".join(lines) + "\n", facts.companions, reason)


def _reason(kind: str, facts: Facts) -> str:
    """Return which handler the draft names, why, and how to have another; `kind` is what a person asked for, or ""."""
    if kind:
        return f'handler = "{kind}", by --kind'
    source = f"by the outputs of the file: {_outputs_text(facts)}" if facts.outputs else "the file tells no outputs"
    others = ", ".join(other for other in KINDS if other != facts.kind)
    return f'handler = "{facts.kind}", {source}; if the network does something else: --replace --kind, one of {others}'


def facts_of(source: Path) -> Facts:
    """Return what a file tells.

    Raises: ConfigError.
    """
    try:
        return facts(source)
    except ModelError as error:
        raise ConfigError(str(error)) from error


def _head(source: Path, kind: str, facts: Facts, digests: dict[str, str]) -> Iterable[str]:
    yield f'handler = "{kind}"' + "  # the handler that reads by this file"
    yield 'title = "TODO: the title of the report, such as Fracture of the hip"'
    yield 'version = "1"  # reports name it'
    yield 'licence = "TODO: of the weights, such as Apache-2.0"'
    yield 'trained_on = "TODO: the data, their number, the years"'
    yield "not_for = []  # what every report says that the model is not for: children, implants, …"
    yield 'status = "site"  # your own responsibility; demonstration keeps answers in the node'
    yield ""
    yield "[file]"
    yield f"path = {json.dumps(source.name)}"
    yield f'sha256 = "{digests[source.name]}"  # other bytes are not read'
    yield f'format = "{facts.format}"'
    if facts.format == "safetensors":
        yield 'architecture = "TODO: its name in timm, such as resnet18"'
    for name in facts.companions:
        yield ""
        yield "[[file.companions]]"
        yield f"path = {json.dumps(name)}"
        yield f'sha256 = "{digests[name]}"'


def _takes(kind: str, facts: Facts) -> Iterable[str]:
    is_volume = len(facts.size) == _VOLUME
    yield ""
    yield "[takes]  # what a study must hold, by its headers"
    yield 'modality = ["TODO: such as DX"]'
    yield 'body_part = ["TODO: such as CHEST; remove the line for any part"]'
    yield '# units = "GML"  # of a PET (PT): what its values count, by Units (0054,1001)'
    yield '# suv = "BW"  # of GML: by what uptake is normalized, by SUV Type (0054,1006)'
    if is_volume:
        yield "min_instances = 16  # slices of a stack"
        yield "max_spacing_mm = 5.0  # between slices, at most"
    elif kind in {"classify", "segment"}:
        yield 'images = "single"  # each image by itself; stack: the slices of a stack'


def _input(facts: Facts) -> Iterable[str]:
    dimensions = len(facts.size) or None
    yield ""
    yield f"[input]  # the file says: {_shape_text(facts.input)}"
    yield f"dimensions = {dimensions}" if dimensions else 'dimensions = "TODO: 2 for pictures, 3 for volumes"'
    yield f"size = {_size(facts)}  # {'along each axis of the array' if dimensions == _VOLUME else 'rows, columns'}"
    if dimensions == _VOLUME:
        yield 'orientation = "TODO: the sides to which the axes run: SPL for slices, rows, columns; RAS as NIfTI"'
        yield 'spacing_mm = ["TODO: mm along the first axis", "TODO: the second", "TODO: the third"]'
    else:
        yield 'fit = "stretch"  # or pad, crop: the aspect stays; center: at spacing_mm = [row, column]'
    yield f"channels = {facts.channels}" if facts.channels else 'channels = "TODO: 1 for gray, 3 for color"'
    layout = "channels_last" if facts.is_channels_last or facts.format == "keras" else "channels_first"
    yield f'layout = "{layout}"'
    if dimensions == _VOLUME:
        yield 'range = ["TODO: low, such as -1000 HU", "TODO: high"]  # to 0 to 1; or percentiles, values = "zscore"'
    else:
        yield 'values = "display"  # as a viewer shows it, 0 to 1; or range, window, percentiles, "zscore", "raw"'
    yield "scale = 1.0  # the network gets (value x scale - mean) / std, as in its training: check this"
    means = facts.channels == _COLOR
    yield f"mean = {'[0.485, 0.456, 0.406]' if means else '[0.0]'}" + ("  # those of ImageNet" if means else "")
    yield f"std = {'[0.229, 0.224, 0.225]' if means else '[1.0]'}"


def _classes(facts: Facts) -> Iterable[str]:
    count = facts.classes
    yield ""
    yield f"[output]  # the file says: {_outputs_text(facts)}"
    yield from _output_name(facts)
    yield _activation(facts, count)
    yield _SITE
    for number in range(min(count or 1, _MOST_CLASSES)):
        yield ""
        yield "[[output.classes]]  # one for each number of the answer, in order"
        yield f'name = "TODO: of class {number}"'
        yield _CODE
        yield 'threshold = "TODO: above which it is present; of what is no finding, as normal, remove both lines"'


def _boxes(facts: Facts) -> Iterable[str]:
    yield ""
    yield f"[output]  # the file says: {_outputs_text(facts)}"
    for key in ("boxes", "scores", "labels"):
        name = next((output.name for output in facts.outputs if key.rstrip("s") in output.name.lower()), "")
        question = f"TODO: the output with the {key}: its name, or place in a tuple"
        advice = "  # no line where scores have a column for each class" if key == "labels" and not name else ""
        yield f"{key} = {json.dumps(name or question)}{advice}"
    yield 'corners = "TODO: xyxy, cxcywh or xywh"'
    yield 'normalized = "TODO: true for shares of the input, false for its pixels, without quotes"'
    yield "first_label = 1  # the number of the first class among the labels; 0 is often the background"
    yield "last_is_background = false  # true: one column of scores more behind those of the classes"
    yield "overlap = 0.5  # IoU above which the weaker of two boxes is left out"
    yield _SITE
    yield ""
    yield "[[output.classes]]"
    yield 'name = "TODO: of the class"'
    yield _CODE
    yield 'threshold = "TODO: above which a box is shown"'


def _points(facts: Facts) -> Iterable[str]:
    yield ""
    yield f"[output]  # the file says: {_outputs_text(facts)}"
    yield from _output_name(facts)
    yield 'form = "TODO: places for pairs of numbers, heatmaps for a map of each landmark"'
    yield 'order = "xy"  # or yx: of the numbers of a place'
    yield "normalized = false  # true: shares of the input"
    yield from _stride(facts)
    yield _SITE
    yield ""
    yield "[[output.points]]  # one for each landmark, in order"
    yield 'name = "TODO: of the landmark"'
    yield _CODE


def _activation(facts: Facts, count: int | None) -> str:
    """Return the line of the activation; of several answers no file tells whether one of them alone is there."""
    if len(facts.outputs) == 1 and (end := facts.probable_end()):
        return f'activation = "none"  # the file ends in {end}: it answers with probabilities'
    if count == 1:
        return 'activation = "sigmoid"  # or none if it answers with a probability: check this'
    return (
        'activation = "TODO: softmax where one of them alone is there, sigmoid where each is judged by itself, none if '
        'the network answers with probabilities"'
    )


def _segments(facts: Facts) -> Iterable[str]:
    shape = facts.outputs[0].shape if facts.outputs else ()
    is_map = bool(shape) and len(shape) < len(facts.input)
    channels = None if is_map or not shape else shape[-1] if facts.is_channels_last else shape[1]
    yield ""
    yield f"[output]  # the file says: {_outputs_text(facts)}"
    yield from _output_name(facts)
    yield f'masks = "{"labels" if is_map else "channels"}"  # channels: one for each segment; labels: a map of numbers'
    if not is_map:
        yield _activation(facts, channels)
    yield from _stride(facts)
    yield _SITE
    for number in range(0 if channels == 1 else 1, min(channels or 2, _MOST_CLASSES)):
        yield ""
        yield "[[output.segments]]"
        yield f'name = "TODO: of {"label" if is_map else "channel"} {number}"'
        yield f"value = {number}"
        yield _CODE
        yield 'category = "anatomy"  # or abnormal: a candidate'


def _output_name(facts: Facts) -> Iterable[str]:
    """Return the question which of several outputs is read."""
    if len(facts.outputs) > 1:
        yield 'name = "TODO: of the output that is read"'


def _stride(facts: Facts) -> Iterable[str]:
    """Return the question of a picture's answer with fewer cells than the input has pixels."""
    shape = facts.outputs[0].shape if facts.outputs else ()
    if len(facts.size) != _ROWS_AND_COLUMNS or len(shape) != _ROWS_AND_COLUMNS + 2:
        return
    cells = shape[1:3] if facts.is_channels_last else shape[2:]
    strides = {
        side // count if side and count and side % count == 0 else 0
        for side, count in zip(facts.size, cells, strict=True)
    }
    if len(strides) == 1 and (stride := strides.pop()) > 1:
        yield f'stride = "TODO: {stride} if a cell covers {stride} x {stride} pixels, no border cut off; no quotes"'


def _size(facts: Facts) -> str:
    names = ("rows", "columns") if len(facts.size) != _VOLUME else ("the first axis", "the second", "the third")
    sizes: Sequence[int | None] = facts.size or (None, None)
    texts = (str(size) if size else f'"TODO: {name}"' for size, name in zip(sizes, names, strict=True))
    return f"[{', '.join(texts)}]"


def _shape_text(shape: Sequence[int | None]) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape) or "nothing"


def _outputs_text(facts: Facts) -> str:
    texts = (f"{output.name} {_shape_text(output.shape)}".strip() for output in facts.outputs)
    return "".join(letter for letter in ", ".join(texts) if letter.isprintable()) or "nothing"


_CODE = 'code = ["TODO: code of the finding", "SCT", "TODO: its meaning"]  # SNOMED CT (SCT), DCM, or 99… of your own'
_SITE = 'site = ["TODO: code of the body site", "SCT", "TODO: its meaning"]'
