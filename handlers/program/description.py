"""A `model.toml` of a program: how the program is started, what it takes, what its answer means.

`ainode.node.reading.described` has read the keys of the node before.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from ainode.handlers import IMAGING_PROCEDURE
from ainode.handlers.described.classes import threshold_of
from ainode.handlers.described.description import Takes, takes_of
from ainode.handlers.program.answer import MOST
from ainode.node.domain import Code, Segment, is_uid
from ainode.node.reading.attachments import KINDS
from ainode.node.reading.containers import ENGINES
from ainode.node.reading.described import DescribedModel
from ainode.node.reading.program_limits import ProgramLimits
from ainode.node.reading.tables import Table

Form = Literal["executable", "archive", "image"]
Layout = Literal["ainode", "mercure"]
InputForm = Literal["dicom", "nifti"]
_MEBIBYTE = 1 << 20
_LEAST_SLICES = 2
_MOST_LABEL = 255
# SNOMED CT: volume, area, length, diameter, long and short axis, width, depth, circumference, perimeter.
_SIZES = frozenset({
    "118565006", "42798000", "410668003", "81827009", "103339001", "103340004", "103355008", "131197000", "74551000",
    "131191004",
})  # fmt: skip
_OF_NUMBERS = ("probabilities.", "measurements.")


@dataclass(frozen=True, slots=True)
class Start:
    """How a program is started."""

    form: Form
    engine: str
    """of a container; '' for the first that is there"""
    command: tuple[str, ...]
    layout: Layout
    input_form: InputForm
    objects: tuple[str, ...]
    """what DICOM objects it may make"""
    settings: Mapping[str, object]
    environment: Mapping[str, str]
    limits: ProgramLimits


@dataclass(frozen=True, slots=True)
class Class:
    """What the program finds, or not."""

    name: str
    code: Code
    site: Code
    threshold: float | None
    key: str
    """where result.json has its probability in the study, as keys with dots; '' where only findings have one"""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What the program measures."""

    name: str
    code: Code
    unit: Code
    key: str
    """where result.json has it, as keys with dots"""
    least: float = -math.inf
    most: float = math.inf
    """what the number can be"""


@dataclass(frozen=True, slots=True)
class Output:
    """What the numbers and labels of an answer mean."""

    site: Code | None
    classes: Mapping[str, Class]
    quantities: Mapping[str, Quantity]
    segments: Mapping[int, Segment]
    """by the label in a mask"""

    @property
    def keys(self) -> tuple[str, ...]:
        """Return where result.json has what is described, as keys with dots: no other key leaves the node."""
        entries: tuple[Class | Quantity, ...] = (*self.classes.values(), *self.quantities.values())
        return tuple(dict.fromkeys(entry.key for entry in entries if entry.key))


@dataclass(frozen=True, slots=True)
class Description:
    """The whole of a description."""

    title: str
    not_for: tuple[str, ...]
    procedure: Code
    takes: Takes
    """a stack: the best single stack of slices is read; else every image that fits"""
    start: Start
    output: Output


def read_description(model: DescribedModel) -> Description:
    """Return the description of a program.

    Raises: ConfigError that names the key, its value, and what is allowed.
    """
    table = model.table
    takes, program, output = (table.table(key) for key in ("takes", "program", "output"))
    start = _start(program)
    description = Description(
        model.title,
        table.texts("not_for", ()),
        table.code("procedure", IMAGING_PROCEDURE),
        _takes(takes, start.input_form),
        start,
        _output(output, start.layout),
    )
    for part in (table, model.file, takes, program, output):
        part.refuse_unknown()
    return description


def _takes(table: Table, input_form: InputForm) -> Takes:
    images = table.text("images", "stack" if input_form == "nifti" else "all", choices=("stack", "all"))
    if input_form == "nifti" and images == "all":
        raise table.wrong("images", 'with input = "nifti" a stack is read')
    return takes_of(table, is_stack=images == "stack", color="any", usual_slices=_LEAST_SLICES, usual_side=1)


def _start(table: Table) -> Start:
    objects = table.texts("objects", tuple(KINDS))
    for kind in objects:
        if kind not in KINDS and not is_uid(kind):
            raise table.wrong("objects", f"each is one of {', '.join(KINDS)}, or the UID of a SOP class")
    settings, environment = table.mapping("settings"), table.mapping("environment")
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise table.wrong("settings", "dates and times cannot be written as JSON; write them as texts") from error
    if not all(isinstance(value, str) for value in environment.values()):
        raise table.wrong("environment", "each value is a text")
    form = cast("Form", table.text("form", choices=("executable", "archive", "image")))
    engine = table.text("engine", "", choices=("", *ENGINES))
    if engine and form == "executable":
        raise table.wrong("engine", "it starts containers; an executable is started without one")
    return Start(
        form,
        engine,
        table.texts("command", ()),
        cast("Layout", table.text("layout", "ainode", choices=("ainode", "mercure"))),
        cast("InputForm", table.text("input", "dicom", choices=("dicom", "nifti"))),
        objects,
        settings,
        {key: str(value) for key, value in environment.items()},
        _limits(table),
    )


def _limits(table: Table) -> ProgramLimits:
    usual = ProgramLimits()
    return ProgramLimits(
        table.number("time_limit_s", usual.time_s, least=1, most=86_400),
        table.whole("memory_bytes", usual.memory_bytes, least=16 * _MEBIBYTE, most=1 << 42),
        table.whole("disk_bytes", usual.disk_bytes, least=_MEBIBYTE, most=1 << 42),
        table.whole("processes", usual.processes, least=1, most=4096),
        table.whole("cores", usual.cores, least=0, most=1024),
    )


def _output(table: Table, layout: Layout) -> Output:
    site = table.code_if_given("site")
    classes = tuple(_class(item, site, layout) for item in table.tables("classes"))
    quantities = tuple(_quantity(item, layout) for item in table.tables("measurements"))
    segments = [_segment(item) for item in table.tables("segments")]
    for names in ([item.name for item in classes], [item.name for item in quantities], [item for item, _ in segments]):
        if len(set(names)) < len(names):
            raise table.wrong_together("two entries of a list have one name or label")
    return Output(site, {item.name: item for item in classes}, {item.name: item for item in quantities}, dict(segments))


def _class(table: Table, site: Code | None, layout: Layout) -> Class:
    name = table.text("name")
    threshold = threshold_of(table)
    item = Class(name, table.code("code"), table.code("site", site), threshold, _key(table, "", layout))
    if item.key and threshold is None:
        raise table.wrong_together("a class with a probability of the study (key) needs a threshold")
    table.refuse_unknown()
    return item


def _quantity(table: Table, layout: Layout) -> Quantity:
    name = table.text("name")
    code, unit, key = table.code("code"), table.code("unit"), _key(table, f"measurements.{name}", layout)
    # A length, an area or a volume; a change of one may be negative, and has a code or `least` of its own.
    usual_least = 0.0 if code.scheme == "SCT" and code.value in _SIZES else -math.inf
    least, most = (table.number_if_given(key, least=-MOST, most=MOST) for key in ("least", "most"))
    least = usual_least if least is None else least
    most = math.inf if most is None else most
    if least > most:
        raise table.wrong_together(f"no number lies between least = {least:g} and most = {most:g}")
    item = Quantity(name, code, unit, key, least, most)
    table.refuse_unknown()
    return item


def _key(table: Table, usual: str, layout: Layout) -> str:
    """Return where result.json has a number.

    Raises: ConfigError if the layout has no numbers there.
    """
    key = table.text("key", usual)
    if layout == "ainode" and key and not key.startswith(_OF_NUMBERS):
        raise table.wrong("key", f'with layout = "ainode" it begins with {" or ".join(_OF_NUMBERS)}')
    return key


def _segment(table: Table) -> tuple[int, Segment]:
    label = table.whole("label", least=1, most=_MOST_LABEL)
    segment = Segment(table.text("name"), table.code("category"), table.code("code"))
    table.refuse_unknown()
    return label, segment
