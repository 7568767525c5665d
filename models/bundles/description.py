"""What a bundle says of itself: the question it answers, its classes, and whether its answer can be placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from monai.inferers.inferer import SliceInferer
from monai.transforms.post.dictionary import Activationsd, AsDiscreted, Invertd
from monai.transforms.spatial.dictionary import Orientationd

from ainode.models.bundles import allowed
from ainode.models.bundles.config_files import shown
from ainode.models.bundles.pipeline import PREDICTION, Parts
from ainode.models.bundles.review import refusal
from ainode.models.bundles.tree import Tree

_BACKGROUND: Final = frozenset({"background", "everything else", "bg", "others", "unlabeled"})
_MAX_TEXT: Final = 200
_MAX_CLASSES: Final = 256
_CHANNEL_AXIS: Final = 0  # of an answer without its batch
_CLASSES: Final = frozenset({"classes", "classification", "class"})


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of a network's answer, and what the bundle calls it."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Description:
    """What a bundle says of itself, of what its parts bear out."""

    kind: Literal["segment", "classify"]
    title: str
    version: str
    modality: str
    licence: str
    trained_on: str
    intended_use: str
    channels: tuple[Channel, ...]
    """those that an answer names; of a label map the background is none of them"""
    exclusive: bool
    """whether a voxel has one label, or each channel is a mask of its own"""
    is_turning: bool
    """whether the bundle turns its image itself, so that it may be handed over in any orientation"""


def description(tree: Tree, metadata: dict[str, Any], parts: Parts) -> Description:
    """Return what a bundle says of itself.

    Raises: BundleRefused, with a line for each key that is missing or cannot be served.
    """
    problems: list[str] = []
    image = _format(metadata, "inputs", problems)
    answer = _format(metadata, "outputs", problems)
    if problems:
        raise refusal("metadata.json", problems)
    if image.get("num_channels", 1) != 1:
        problems.append(
            f"network_data_format#inputs = {shown(image.get('num_channels'))} channels: images of one channel are read"
        )
    kind = _kind(answer, problems)
    names = _names(answer, problems)
    if problems:
        raise refusal("metadata.json", problems)
    exclusive = len(names) > 1 and any(_argmax(transform) for transform in parts.after)
    if answer_problems := _answer_problems(tree, parts, kind, (exclusive, len(names))):
        raise refusal(tree.file_name, answer_problems)
    if kind == "segment" and exclusive and names[0].lower() not in _BACKGROUND:
        problem = f"network_data_format#outputs#channel_def#0 = {shown(names[0])}: label 0 is background; say so"
        raise refusal("metadata.json", [problem])
    channels = [Channel(number, name) for number, name in enumerate(names)]
    return Description(
        kind=kind,
        title=_text(metadata, "name") or _text(metadata, "task"),
        version=_text(metadata, "version"),
        modality=_text(image, "modality").upper(),
        licence=_text(metadata, "license") or _text(metadata, "copyright"),
        trained_on=_text(metadata, "data_source"),
        intended_use=_text(metadata, "intended_use"),
        channels=tuple(channels[1:] if kind == "segment" and exclusive else channels),
        exclusive=exclusive,
        is_turning=any(isinstance(transform, Orientationd) for transform in parts.before),
    )


def _answer_problems(
    tree: Tree, parts: Parts, kind: Literal["segment", "classify"], labels: tuple[bool, int]
) -> list[str]:
    """Return why the answer is not of its kind; `labels`: whether a voxel has one, and of how many channels."""
    if flat := _flat_network(tree, parts):
        return [flat]
    if problems := _channel_problems(parts, labels[1]):
        return problems
    if kind == "classify":
        activates = any(_activates(transform) for transform in parts.after)
        return [] if activates else [f"postprocessing: no Activationsd of {PREDICTION!r}: no probabilities"]
    exclusive, channels = labels
    if problems := placement_problems(parts):
        return problems
    if not exclusive and channels > 1:
        return [f"postprocessing: no AsDiscreted with argmax: masks of {channels} channels that may overlap"]
    return []


def _channel_problems(parts: Parts, channels: int) -> list[str]:
    """Return why a softmax or an argmax chooses nothing, or along another axis than that of the channels."""
    problems = []
    for transform in parts.after:
        if not isinstance(transform, Activationsd | AsDiscreted):
            continue
        name = type(transform).__name__
        is_choosing = _argmax(transform) or (isinstance(transform, Activationsd) and any(_flags(transform.softmax)))
        if is_choosing and channels == 1:
            problems.append(f"postprocessing: {name}: softmax or argmax over one channel is the same for every image")
        axis = transform.converter.kwargs.get("dim", _CHANNEL_AXIS)
        if axis != _CHANNEL_AXIS:
            problems.append(f"postprocessing: {name}, dim = {shown(axis)}: channels are chosen from along axis 0")
    return problems


def placement_problems(parts: Parts) -> list[str]:
    """Return why the answer of a segmentation would not be labels on the grid of its image."""
    problems = []
    before, after = parts.before, parts.after
    moving = [type(t).__name__ for t in before if allowed.moves(type(t).__name__)]
    inverting = [number for number, t in enumerate(after) if isinstance(t, Invertd) and PREDICTION in t.keys]
    if moving and not inverting:
        problems.append(
            f"postprocessing: no Invertd of {PREDICTION!r}, though preprocessing changes the grid ({', '.join(moving)})"
        )
    problems += [
        "postprocessing: Invertd takes back another row of transforms than preprocessing; transform = '@preprocessing'"
        for number in inverting
        if after[number].transform is not parts.preprocessing
    ]
    discrete = [number for number, t in enumerate(after) if isinstance(t, AsDiscreted) and PREDICTION in t.keys]
    if not discrete:
        problems.append(f"postprocessing: no AsDiscreted of {PREDICTION!r}: the answer would hold no labels")
    problems += [
        "postprocessing: Invertd with nearest_interp false after AsDiscreted mixes labels of neighbors; nearest_interp "
        "true, or AsDiscreted after Invertd"
        for number in inverting
        if discrete and discrete[0] < number and not all(_flags(after[number].nearest_interp))
    ]
    return problems


def _flat_network(tree: Tree, parts: Parts) -> str:
    """Return why a network reads no volume: it has two dimensions, and no inferer goes through the slices."""
    dimensions = tree.at("network_def").get("spatial_dims") if isinstance(tree.at("network_def"), dict) else None
    if dimensions in {2, "2"} and not isinstance(parts.inferer, SliceInferer):
        return f"network_def#spatial_dims = {shown(dimensions)}: volumes are read; a SliceInferer reads them by slices"
    return ""


def _activates(transform: object) -> bool:
    """Return whether a transform makes probabilities of a network's numbers."""
    return isinstance(transform, Activationsd) and any((*_flags(transform.sigmoid), *_flags(transform.softmax)))


def _flags(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _argmax(transform: object) -> bool:
    """Return whether a transform makes one label of the channels."""
    return isinstance(transform, AsDiscreted) and any(_flags(transform.argmax))


def _format(metadata: dict[str, Any], side: str, problems: list[str]) -> dict[str, Any]:
    """Return what metadata says of the one image, or the one answer; note what is missing."""
    formats = metadata.get("network_data_format")
    entries = formats.get(side) if isinstance(formats, dict) else None
    tables = [entry for entry in entries.values() if isinstance(entry, dict)] if isinstance(entries, dict) else []
    if len(tables) != 1:
        problems.append(f"network_data_format#{side}: {len(tables)} are described; one is read")
        return {}
    return tables[0]


def _kind(answer: dict[str, Any], problems: list[str]) -> Literal["segment", "classify"]:
    """Return which question a described answer is to; note an answer that is to neither."""
    form, kind = answer.get("format"), answer.get("type")
    if form == "segmentation":
        return "segment"
    if kind == "probabilities" or (isinstance(form, str) and form in _CLASSES):
        return "classify"
    problems.append(
        f"network_data_format#outputs: type {shown(kind)}, format {shown(form)}; an image of format 'segmentation' or "
        "probabilities of format 'classes' are answers here"
    )
    return "segment"


def _names(answer: dict[str, Any], problems: list[str]) -> list[str]:
    """Return the name of each channel of an answer; note what is missing."""
    count, named = answer.get("num_channels"), answer.get("channel_def")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= _MAX_CLASSES:
        problems.append(f"network_data_format#outputs, num_channels = {shown(count)}: 1 to {_MAX_CLASSES} are read")
        return []
    table = named if isinstance(named, dict) else {}
    names = [_text(table, str(number)) for number in range(count)]
    if not all(names) or len(table) != count:
        problems.append(
            f"network_data_format#outputs, channel_def = {shown(named)}: a name for each of {count} channels"
        )
        return []
    return names


def _text(table: dict[str, Any], key: str) -> str:
    """Return a text of metadata in one line; empty if it has none."""
    value = table.get(key)
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(character for character in text if character.isprintable())[:_MAX_TEXT]
