"""A `model.toml` as a handler reads it: what the model takes, how its input is made, what its output means.

`ainode.node.reading.described` has read the keys of the node before. Every fault names file, key, value, and what is
allowed.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from ainode.handlers import IMAGING_PROCEDURE
from ainode.models.described.scaling import Kind, Scaling
from ainode.models.described.windows import Sliding
from ainode.node.domain import Code
from ainode.node.imaging.picture_kind import KINDS
from ainode.node.reading.described import DescribedModel
from ainode.node.reading.tables import Table

if TYPE_CHECKING:
    from ainode.models.described.placement import Fit

ACTIVATIONS = ("softmax", "sigmoid", "none")
_SCALINGS = ("values", "window", "range", "percentiles")
_OF_GRAY = frozenset({"range", "percentiles"})
_LAYOUTS = ("channels_first", "channels_last")
_SIDES = ("SI", "PA", "LR")
_GRAY, _COLOR = 1, 3
PICTURE, VOLUME = 2, 3
"""dimensions of an input"""
_MOST_STRIDE = 64
_LEAST_SLICES, _LEAST_SIDE, _MOST_SIDE = 8, 32, 8192
_OF_STACKS = 'it is of a stack of slices: images = "stack"'
# PS3.3 C.8.9.1.1.3: the defined terms of Units.
_PET_UNITS = (
    *("CNTS", "NONE", "CM2", "CM2ML", "PCNT", "CPS", "BQML", "MGMINML", "UMOLMINML", "MLMING", "MLG", "1CM", "UMOLML"),
    *("PROPCNTS", "PROPCPS", "MLMINML", "MLML", "GML", "STDDEV"),
)
SUV_TYPES = {"GML": "BW", "CM2ML": "BSA"}
"""what an absent SUV Type (0054,1006) stands for, by the units of uptake values (PS3.3 C.8.9.1)"""
_SUV_TYPES = ("BW", "LBM", "LBMJAMES128", "LBMJANMA", "BSA", "IBW")
Color = Literal["gray", "color", "any"]


@dataclass(frozen=True, slots=True)
class Takes:
    """What a study must hold."""

    modality: tuple[str, ...]
    body_part: tuple[str, ...]
    """() for any"""
    is_stack: bool
    """whether a stack of slices is read, and not each image by itself"""
    min_instances: int
    smallest_side: int
    color: Color
    series: str
    """words that Series Description holds; '' for any"""
    max_spacing_mm: float
    min_coverage_mm: float
    kernel: Literal["any", "soft", "lung"]
    units: str
    """what the values of a PET count, by Units (0054,1001), such as GML; '' where none is read"""
    suv: str
    """by what uptake values of a PET are normalized, by SUV Type (0054,1006); '' of other units"""
    also: tuple[str, ...]
    """what is no picture by itself and is read, too, of `picture_kind.KINDS`"""


@dataclass(frozen=True, slots=True)
class Input:
    """How an image or a stack becomes the network's input."""

    dimensions: int
    size: tuple[int, ...]
    """rows and columns, or the size along each axis of a volume; () where windows slide over any size"""
    fit: "Fit"
    channels: int
    is_channels_last: bool
    scaling: Scaling
    spacing_mm: tuple[float, ...]
    orientation: str
    """the sides to which the axes run, such as SPL; '' as the node has them"""
    sliding: Sliding | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the network's input, the batch included."""
        size = self.sliding.roi if self.sliding else self.size
        return (1, *size, self.channels) if self.is_channels_last else (1, self.channels, *size)

    @property
    def text(self) -> str:
        """Return the input in words, for a report."""
        size = " x ".join(map(str, self.size)) or "any size"
        spacing = f"at {' x '.join(f'{step:g}' for step in self.spacing_mm)} mm" if self.spacing_mm else ""
        roi = "" if self.sliding is None else f"windows of {' x '.join(map(str, self.sliding.roi))}"
        texts = (size, self.fit, spacing, self.orientation, roi, str(self.scaling))
        return ", ".join(text for text in texts if text)


@dataclass(frozen=True, slots=True)
class Description:
    """The keys of a model.toml that every handler reads."""

    title: str
    not_for: tuple[str, ...]
    takes: Takes
    input: Input
    procedure: Code
    output: Table
    """what the handler reads for itself"""


def read_description(model: DescribedModel) -> Description:
    """Return the description of a model; the output's keys are left to the handler, which refuses the unknown.

    Raises: ConfigError.
    """
    table = model.table
    takes, network_input, output = table.table("takes"), table.table("input"), table.table("output")
    read_input = _input_of_bundle(network_input) if model.format == "bundle" else _input(network_input)
    read = Description(
        model.title,
        table.texts("not_for", ()),
        _takes(takes, read_input),
        read_input,
        table.code("procedure", IMAGING_PROCEDURE),
        output,
    )
    if read.takes.is_stack and read_input.scaling.kind == "display":
        raise network_input.wrong(
            "values", f'a stack is read by {", ".join(_SCALINGS[1:])}, or values = "zscore" or "raw"'
        )
    if read_input.orientation and not read.takes.is_stack:
        raise network_input.wrong("orientation", f"an image by itself is read as it lies; {_OF_STACKS}")
    for part in (table, takes, network_input):
        part.refuse_unknown()
    return read


def _takes(table: Table, network_input: Input) -> Takes:
    is_gray_alone = network_input.channels == _GRAY or network_input.dimensions == VOLUME
    is_gray_alone |= network_input.scaling.kind in _OF_GRAY
    color = table.text("color", "gray" if is_gray_alone else "any", choices=("gray", "color", "any"))
    if is_gray_alone and color != "gray":
        raise table.wrong(
            "color",
            "a network of one channel, of volumes, or of values in a range or between percentiles reads gray images",
        )
    images = table.text(
        "images", "stack" if network_input.dimensions == VOLUME else "single", choices=("single", "stack")
    )
    is_stack = images == "stack"
    if network_input.dimensions == VOLUME and not is_stack:
        raise table.wrong("images", "a network of three dimensions reads a stack")
    read_color = "gray" if is_stack else cast("Color", color)
    return takes_of(table, is_stack=is_stack, color=read_color, usual_slices=_LEAST_SLICES, usual_side=_LEAST_SIDE)


def takes_of(table: Table, *, is_stack: bool, color: Color, usual_slices: int, usual_side: int) -> Takes:
    """Return what [takes] says beside the kind of the images; a stack has `usual_slices` where it says no number.

    Raises: ConfigError.
    """
    for key in ("max_spacing_mm", "min_coverage_mm", "kernel"):
        if table.has(key) and not is_stack:
            raise table.wrong(key, _OF_STACKS)
    modality = table.texts("modality")
    units = _pet_units(table, modality)
    return Takes(
        modality=modality,
        body_part=table.texts("body_part", ()),
        is_stack=is_stack,
        min_instances=table.whole("min_instances", usual_slices if is_stack else 1, least=1, most=100_000),
        smallest_side=table.whole("smallest_side", usual_side, least=1, most=_MOST_SIDE),
        color=color,
        series=table.text("series", ""),
        max_spacing_mm=table.number("max_spacing_mm", 1000, least=0.01, most=1000),
        min_coverage_mm=table.number("min_coverage_mm", 0, least=0, most=3000),
        kernel=cast("Literal['any', 'soft', 'lung']", table.text("kernel", "any", choices=("any", "soft", "lung"))),
        units=units,
        suv=_suv_type(table, units),
        also=_kinds_also_read(table),
    )


def _pet_units(table: Table, modality: Collection[str]) -> str:
    """Return what the values of a PET must count; '' where none is read.

    Raises: ConfigError if a PET is read and the units are missing, or no PET is.
    """
    if "PT" in modality:
        return table.text("units", choices=_PET_UNITS)
    if table.has("units"):
        raise table.wrong("units", "it is of a PET (PT) alone")
    return ""


def _suv_type(table: Table, units: str) -> str:
    """Return by what the uptake values of a PET must be normalized, body weight by default; '' of other units.

    Raises: ConfigError.
    """
    if units in SUV_TYPES:
        return table.text("suv", SUV_TYPES[units], choices=_SUV_TYPES)
    if table.has("suv"):
        raise table.wrong("suv", f"it is of a PET in units of {' or '.join(SUV_TYPES)} alone")
    return ""


def _kinds_also_read(table: Table) -> tuple[str, ...]:
    """Return which images that are no pictures by themselves are read, too.

    Raises: ConfigError.
    """
    kinds = table.texts("also", ())
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise table.wrong("also", f"{unknown[0]!r} is none of {', '.join(KINDS)}")
    return kinds


def _input(table: Table) -> Input:
    dimensions = table.whole("dimensions", least=2, most=3)
    channels = table.whole("channels", 1, least=1, most=_COLOR)
    if channels not in {_GRAY, _COLOR}:
        raise table.wrong("channels", "1 (gray) or 3 (color, or gray three times) is read")
    sliding = _sliding(table.table("sliding"), dimensions) if table.has("sliding") else None
    fits = ("stretch", "pad", "crop", "center") if dimensions == PICTURE else ("stretch", "center")
    fit = table.text("fit", "center" if sliding or dimensions == VOLUME else "stretch", choices=fits)
    spacing_mm = table.numbers("spacing_mm", (), counts=(dimensions,))
    if spacing_mm and (min(spacing_mm) <= 0 or fit != "center"):
        raise table.wrong("spacing_mm", 'numbers above 0, together with fit = "center", are needed')
    if sliding and fit != "center":
        raise table.wrong("fit", "windows slide over the image as it is: center")
    return Input(
        dimensions=dimensions,
        size=table.sizes("size", () if sliding else None, count=dimensions),
        fit=cast("Fit", fit),
        channels=channels,
        is_channels_last=table.text("layout", "channels_first", choices=_LAYOUTS) == "channels_last",
        scaling=_scaling(table, channels),
        spacing_mm=spacing_mm,
        orientation=_orientation(table, dimensions),
        sliding=sliding,
    )


def _input_of_bundle(table: Table) -> Input:
    """Return the input of a MONAI bundle, which makes its own of a whole volume."""
    dimensions = table.whole("dimensions", VOLUME, least=VOLUME, most=VOLUME)
    orientation = _orientation(table, dimensions)
    return Input(dimensions, (), "center", _GRAY, False, Scaling("raw"), (), orientation, None)  # noqa: FBT003


def _orientation(table: Table, dimensions: int) -> str:
    letters = table.text("orientation", "").upper()
    pairs = [next((number for number, pair in enumerate(_SIDES) if letter in pair), None) for letter in letters]
    if letters and (None in pairs or len(set(pairs)) != dimensions or len(letters) != dimensions):
        raise table.wrong(
            "orientation",
            f"{dimensions} letters are needed, such as {'SPL' if dimensions == VOLUME else 'PL'}: "
            "the sides (S or I, P or A, L or R) to which the axes of the array run",
        )
    return letters


def stride_of(output: Table, network_input: Input) -> int:
    """Return how many pixels of the input a cell of the answer covers, each way, by the key `stride`; else 1.

    Raises: ConfigError if such cells cannot cover the whole input, or the answer has the grid of its input anyway.
    """
    stride = output.whole("stride", 1, least=1, most=_MOST_STRIDE)
    if stride > 1 and (network_input.dimensions != PICTURE or network_input.sliding):
        raise output.wrong(
            "stride", "a network of three dimensions, or of windows, answers on the pixels of its input: 1"
        )
    if any(side % stride for side in network_input.size):
        sides = " x ".join(map(str, network_input.size))
        raise output.wrong("stride", f"a whole part of each side of the input, {sides}, is needed")
    return stride


def _sliding(table: Table, dimensions: int) -> Sliding:
    sliding = Sliding(
        table.sizes("roi", count=dimensions),
        table.number("overlap", 0.25, least=0, most=0.9),
        cast("Literal['constant', 'gaussian']", table.text("mode", "gaussian", choices=("constant", "gaussian"))),
    )
    table.refuse_unknown()
    return sliding


def _scaling(table: Table, channels: int) -> Scaling:
    """Return the scaling of an input, which one key gives.

    Raises: ConfigError.
    """
    keys = [key for key in _SCALINGS if table.has(key)]
    table.allow(*_SCALINGS)
    if len(keys) > 1:
        raise table.wrong_together(f"{' and '.join(keys)} are given; one of {', '.join(_SCALINGS)} says the values")
    key = keys[0] if keys else "values"
    if key == "values":
        kind, low, high = table.text("values", "display", choices=("display", "zscore", "raw")), 0.0, 1.0
    else:
        kind = "range" if key == "window" else key
        low, high = table.numbers(key, counts=(2,))
        if key == "window":
            low, high = low - high / 2, low + high / 2
    if not low < high or (kind == "percentiles" and not 0 <= low < high <= 100):  # noqa: PLR2004
        requirement = {"window": "center and a width above 0 are", "percentiles": "two percentiles of 0 to 100 are"}
        raise table.wrong(key, f"{requirement.get(key, 'a low and a high value are')} needed")
    mean, std = table.numbers("mean", (0.0,), counts=(1, channels)), table.numbers("std", (1.0,), counts=(1, channels))
    if min(std) <= 0:
        raise table.wrong("std", "numbers above 0 are needed")
    return Scaling(cast("Kind", kind), low, high, table.number("scale", 1.0, least=1e-6, most=1e6), mean, std)
