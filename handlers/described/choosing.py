"""Which images of a study a site's model reads, by their headers; and why it reads none."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ainode.handlers import body_parts, image_refusal, misfit, readable
from ainode.handlers.described.description import SUV_TYPES, Takes
from ainode.node.domain import Instance, OutOfScope, Selection, Series, Study, counted, refs
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.ct_look import look_at
from ainode.node.imaging.ct_series import CtRequirements, ct_stack, size_misfit
from ainode.node.imaging.free_text import as_code
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.imaging.hounsfield import header_reason
from ainode.node.imaging.picture_kind import NO_PICTURE, SECONDARY_CAPTURE, refused_kind
from ainode.node.imaging.pixel_size import WRONG_SIZE

Refusal = Callable[[Instance, Takes], OutOfScope | None]
_CT, _PET = "CT", "PT"
# No body with its arms is wider, and no bore of an MR or PET; a picture of the whole body is longer.
_WIDEST_FIELD_MM = 700.0


def selected(study: Study, takes: Takes, refusal_of: Refusal | None = None) -> Selection | OutOfScope:
    """Return the images, or the slices of the stack, that a description takes.

    `refusal_of` says why an image is not for the model, where other images than those of a network are taken.
    """
    refusal_of = refusal_of or _image_refusal
    if not takes.is_stack:
        chosen = readable(study, lambda instance: refusal_of(instance, takes))
        if isinstance(chosen, Selection) and len(chosen.instances) < takes.min_instances:
            reason = f"{counted(len(chosen.instances), 'image')} can be read; {takes.min_instances} are needed"
            return OutOfScope(reason, "too-few-images", refs(chosen.instances))
        return chosen
    slices = _stack(study, takes)
    if isinstance(slices, OutOfScope):
        return slices
    uid = slices.instances[0].ref.series_instance_uid
    return Selection(study.study_instance_uid, (Series(uid, slices.instances[0].text("Modality"), slices.instances),))


def looked_at(selection: Selection, takes: Takes) -> Selection | OutOfScope:
    """Return the selection, unless it is a CT whose values are no Hounsfield units or whose pixels have another size.

    Raises: BrokenSeries if a slice cannot be decoded.
    """
    if not takes.is_stack or selection.instances[0].text("Modality") != _CT:
        return selection
    slices = stack(selection.instances)
    if isinstance(slices, OutOfScope):
        return slices
    return look_at(slices).unit_refusal or selection


def _image_refusal(instance: Instance, takes: Takes) -> OutOfScope | None:
    """Return why the header says that an image is not for the model; None if nothing speaks against it."""
    is_gray = instance.text("PhotometricInterpretation").startswith("MONOCHROME")
    if problem := other_kind(instance, takes) or not_read(instance, takes):
        reason, code = problem
    elif takes.color == "gray" and not is_gray:
        reason, code = "the image has colors; gray images are read", "not-gray"
    elif takes.color == "color" and is_gray:
        reason, code = "the image is gray; color images are read", "not-color"
    elif fault := misfit(instance, takes.smallest_side):
        reason, code = fault
    elif instance.text("Modality") == _CT and (words := header_reason((instance,))):
        reason, code = f"{words}; Hounsfield units are read", "not-hounsfield"
    else:
        return None
    return image_refusal(instance, reason, code)


def not_read(instance: Instance, takes: Takes) -> tuple[str, str] | None:
    """Return reason and code of a refusal of what is no picture, unless the description takes such images, too."""
    refused = refused_kind(instance, takes.also)
    return (f'{refused[1]}; also = ["{refused[0]}"] in [takes] takes this, too', NO_PICTURE) if refused else None


def other_kind(instance: Instance, takes: Takes) -> tuple[str, str] | None:
    """Return reason and code of a refusal by modality, body part, units or series; None if they fit."""
    part, modality, series = (
        body_part(instance.header),
        instance.text("Modality"),
        instance.text("SeriesDescription"),
    )
    if modality not in takes.modality:
        return f"Modality is {as_code(modality)}; the model reads {', '.join(takes.modality)}", "wrong-modality"
    if takes.body_part and not part.names & set(takes.body_part):
        return f"the body part is {part}; the model reads {', '.join(takes.body_part)}", "wrong-body-part"
    if modality == _PET and (units := instance.text("Units")) != takes.units:
        return f"Units (0054,1001) is {as_code(units)}; the model reads {takes.units}", "wrong-units"
    if modality == _PET and takes.suv and (suv := _suv_type(instance, takes)) != takes.suv:
        return f"SUV Type (0054,1006) is {as_code(suv)}; the model reads {takes.suv}", "wrong-units"
    if takes.series and takes.series.lower() not in series.lower():
        return f"Series Description does not hold {takes.series!r}; series that do are read", "wrong-series"
    return None


def _stack(study: Study, takes: Takes) -> Stack | OutOfScope:
    """Return the stack of slices to read, or why there is none: the reason of the series that fits best."""
    with_pictures = [_pictures(series, takes) for series in study.series if series.instances]
    problems = {
        series: other_kind(series.instances[0], takes) or _picture_problem(series.instances[0], takes)
        for series in with_pictures
    }
    fitting = tuple(series for series, problem in problems.items() if problem is None)
    if not fitting:
        faults = [problem for problem in problems.values() if problem]
        if not faults:
            return OutOfScope("the study holds no image", "no-image")
        # A study of the right modality is told more than one of another.
        reason, code = next((fault for fault in faults if fault[1] != "wrong-modality"), faults[0])
        if code == "wrong-body-part":
            reason = f"the body part is {body_parts(study.series)}; the model reads {', '.join(takes.body_part)}"
        return OutOfScope(reason, code, refs(study.instances[:1]))
    of_ct = tuple(series for series in fitting if series.modality == _CT)
    answers = [ct_stack(of_ct, _requirements(takes))] if of_ct else []
    answers += [_stack_of(series) for series in fitting if series.modality != _CT]
    return _only_stack([answer if isinstance(answer, OutOfScope) else _fitting(answer, takes) for answer in answers])


def _suv_type(instance: Instance, takes: Takes) -> str:
    """Return by what uptake values are normalized; where nothing is written, as PS3.3 C.8.9.1 has it for the units."""
    return instance.text("SUVType").strip().upper() or SUV_TYPES[takes.units]


def _pictures(series: Series, takes: Takes) -> Series:
    """Return a series with its images that are pictures alone; with all where none is one."""
    pictures = tuple(instance for instance in series.instances if not _picture_problem(instance, takes))
    return replace(series, instances=pictures or series.instances)


def _picture_problem(instance: Instance, takes: Takes) -> tuple[str, str] | None:
    """Return reason and code where an image of a series is no picture; for a CT `ct_stack` has words of its own.

    Of captures of a CT, too, the words name what takes them.
    """
    refused = refused_kind(instance, takes.also)
    if not refused or (instance.text("Modality") == _CT and refused[0] != SECONDARY_CAPTURE):
        return None
    return not_read(instance, takes)


def _requirements(takes: Takes) -> CtRequirements:
    return CtRequirements(
        takes.min_instances,
        takes.min_coverage_mm,
        takes.max_spacing_mm,
        takes.kernel,
        captures=SECONDARY_CAPTURE in takes.also,
    )


def _stack_of(series: Series) -> Stack | OutOfScope:
    slices = stack(series.instances)
    if isinstance(slices, Stack):
        return slices
    return replace(slices, reason=f"series {series.series_instance_uid}: {slices.reason}")


def _only_stack(answers: Sequence[Stack | OutOfScope]) -> Stack | OutOfScope:
    """Return the single stack among the answers, else the first refusal; of several stacks, none is chosen."""
    stacks = [answer for answer in answers if isinstance(answer, Stack)]
    if len(stacks) < 2:  # noqa: PLR2004 - of which one would be chosen
        return stacks[0] if stacks else answers[0]
    uids = " and ".join(str(item.instances[0].ref.series_instance_uid) for item in stacks)
    reason = f"series {uids} fit equally well; send the series to read alone, or name it by [takes] series"
    return OutOfScope(reason, "several-series", refs(item.instances[0] for item in stacks))


def _fitting(slices: Stack, takes: Takes) -> Stack | OutOfScope:
    """Return a stack if it is large and fine enough; how wide a CT may be, its pixels say."""
    reason, code = size_misfit(slices, _requirements(takes))
    if not code and slices.spacing_mm[0] > takes.max_spacing_mm:
        reason = f"its slices are {slices.spacing_mm[0]:.1f} mm apart; at most {takes.max_spacing_mm:g} mm are read"
        code = "too-coarse"
    if not code and min(slices.rows, slices.columns) < takes.smallest_side:
        reason = f"its slices have {slices.rows} x {slices.columns} pixels; {takes.smallest_side} a side are needed"
        code = "too-small"
    field_mm = min(slices.rows * slices.spacing_mm[1], slices.columns * slices.spacing_mm[2])
    if not code and field_mm > _WIDEST_FIELD_MM and slices.instances[0].text("Modality") != _CT:
        reason = f"by Pixel Spacing its slices are {field_mm:.0f} mm wide; at most {_WIDEST_FIELD_MM:.0f} mm are read"
        code = WRONG_SIZE
    uid = slices.instances[0].ref.series_instance_uid
    return OutOfScope(f"series {uid}: {reason}", code, refs(slices.instances)) if code else slices
