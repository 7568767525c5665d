"""Study and routes in, a decision for each route and series out, every condition explained; pure.

A series is a set of images, and each condition narrows it to those that fit; a condition that none fits fails, and the
explanation says what was found instead. The built-in conditions come first: an image with pixels, no document, no
localizer, no derived picture, nothing that we made ourselves.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydicom.datadict import tag_for_keyword

from ainode.node.deciding.patterns import compiled, texts
from ainode.node.deciding.reasons import deciding_words
from ainode.node.domain import Instance, Series, Study
from ainode.node.errors import ConfigError
from ainode.node.identity import is_ours
from ainode.node.imaging.anatomy import PARTS, body_part
from ainode.node.imaging.picture_kind import CROSS_SECTIONAL, LOCALIZER_WORDS
from ainode.node.routes import (
    AN_IMAGE,
    ENOUGH_IMAGES,
    HAS_PIXELS,
    NO_LOCALIZER,
    NOT_DERIVED,
    NOT_OURS,
    NOT_SHOWN,
    PIXELS_TOO,
    SEEN_PARTS,
    BodyPartSource,
    Check,
    Route,
    RouteDecision,
    difference,
)

_FIRST = 1
"""the priority before all others"""
# Modalities of objects that are no image to read (PS3.3 C.7.3.1.1.1). OT is what captures and scans come as.
_NO_IMAGE = frozenset({""}).union(
    "SR PR KO SEG OT DOC REG FID AU ECG EPS HD PLAN RTPLAN RTDOSE RTSTRUCT RTRECORD RWV PX SMR".split()  # noqa: SIM905
)
_PATIENT_GROUP = 0x0010
# These are counted, not read: an object cannot know what else arrived (PS3.4 C.6.1.1, query attributes).
_COUNTED: Mapping[str, Callable[[Study, Series], int]] = {
    "NumberOfSeriesRelatedInstances": lambda _, series: len(series.instances),
    "NumberOfStudyRelatedInstances": lambda study, _: len(study.instances),
    "NumberOfStudyRelatedSeries": lambda study, _: len(study.series),
}
_SHOWN_VALUES = 4
# CS (PS3.5 6.2).
_MODALITY = re.compile(r"[A-Z0-9_ ]{1,16}")


@dataclass(frozen=True, slots=True)
class _Condition:
    """A condition that each image is held against, and the words for what an image has."""

    attribute: str
    expected: str
    holds: Callable[[Instance], bool]
    shown: Callable[[Instance], str]

    def narrow(self, instances: Sequence[Instance]) -> tuple[Check, Sequence[Instance]]:
        """Return the check and the fitting images; all images if none fits, so that later conditions are explained."""
        fitting = [instance for instance in instances if self.holds(instance)]
        values = list(dict.fromkeys(self.shown(instance) for instance in fitting or instances))
        more = ", …" if len(values) > _SHOWN_VALUES else ""
        text = ", ".join(values[:_SHOWN_VALUES]) + more
        return Check(self.attribute, self.expected, text, bool(fitting)), fitting or instances


def _text(keyword: str) -> Callable[[Instance], str]:
    """Return a function that shows an element of an image in an explanation; patient attributes are not shown."""
    tag = tag_for_keyword(keyword)
    if tag is not None and tag >> 16 == _PATIENT_GROUP:
        return lambda _: NOT_SHOWN
    return lambda instance: "\\".join(texts(instance.header.get(keyword))) or "absent"


def _has_pixels(instance: Instance) -> bool:
    return all(isinstance(size := instance.header.get(key), int) and size > 0 for key in ("Rows", "Columns"))


def _size(instance: Instance) -> str:
    return " x ".join("\\".join(texts(instance.header.get(key))) or "absent" for key in ("Rows", "Columns"))


def _localizer_words(instance: Instance) -> frozenset[str]:
    words = {text.upper() for text in texts(instance.header.get("ImageType"))[2:]}
    if instance.text("Modality") in CROSS_SECTIONAL:
        words |= {word.strip("^_-,.;:()").upper() for word in instance.text("SeriesDescription").split()}
    return LOCALIZER_WORDS & words


def _is_secondary(instance: Instance) -> bool:
    return [text.upper() for text in texts(instance.header.get("ImageType"))[:2]] == ["DERIVED", "SECONDARY"]


def _built_in(route: Route) -> Iterable[_Condition]:
    """Yield the conditions of every route; a modality or Image Type of the route replaces the built-in condition."""
    modality = _text("Modality")
    if route.modality:
        expected = " or ".join(route.modality)
        yield _Condition("Modality", expected, lambda instance: instance.text("Modality") in route.modality, modality)
    else:
        yield _Condition("Modality", AN_IMAGE, lambda instance: instance.text("Modality") not in _NO_IMAGE, modality)
    model = _text("ManufacturerModelName")
    yield _Condition("ManufacturerModelName", NOT_OURS, lambda instance: not is_ours(instance), model)
    yield _Condition("Rows", HAS_PIXELS, _has_pixels, _size)
    if "ImageType" not in route.tags:
        image_type = _text("ImageType")
        yield _Condition(
            "ImageType",
            NO_LOCALIZER,
            lambda instance: not _localizer_words(instance),
            lambda instance: ", ".join(sorted(_localizer_words(instance))) or image_type(instance),
        )
        yield _Condition("ImageType", NOT_DERIVED, lambda instance: not _is_secondary(instance), image_type)


def _anatomic(route: Route) -> Iterable[_Condition]:
    if not route.body_part:
        return
    parts = frozenset(part.upper() for part in route.body_part)
    by_pixels = route.body_part_from is BodyPartSource.PIXELS
    yield _Condition(
        "BodyPartExamined",
        " or ".join(route.body_part) + (PIXELS_TOO if by_pixels else ""),
        lambda instance: (
            not parts.isdisjoint(body_part(instance.header).names) or (by_pixels and _is_ct_of_no_part(instance))
        ),
        lambda instance: str(body_part(instance.header)),
    )


def _is_ct_of_no_part(instance: Instance) -> bool:
    return instance.text("Modality") == "CT" and not body_part(instance.header).parts


def _tagged(keyword: str, pattern: str) -> _Condition:
    fits = compiled(pattern)
    return _Condition(keyword, pattern, lambda instance: fits(instance.header.get(keyword)), _text(keyword))


def _all_tagged(tags: Mapping[str, str]) -> Iterable[_Condition]:
    return (_tagged(keyword, pattern) for keyword, pattern in tags.items() if keyword not in _COUNTED)


def _counted(tags: Mapping[str, str], study: Study, series: Series) -> Iterable[Check]:
    for keyword, pattern in tags.items():
        if keyword in _COUNTED:
            count = _COUNTED[keyword](study, series)
            yield Check(keyword, pattern, str(count), compiled(pattern)(count))


def _fits(tags: Mapping[str, str], study: Study, series: Series) -> bool:
    """Whether one image of the series fits all of the patterns."""
    instances: Sequence[Instance] = series.instances
    for condition in _all_tagged(tags):
        check, instances = condition.narrow(instances)
        if not check.passed:
            return False
    return all(check.passed for check in _counted(tags, study, series))


def _required(route: Route, study: Study) -> Iterable[Check]:
    for tags in route.required_series:
        expected = " and ".join(f"{keyword} {pattern}" for keyword, pattern in tags.items())
        passed = any(_fits(tags, study, series) for series in study.series)
        explanation = "there" if passed else f"not among {len(study.series)} series of the study"
        yield Check("a further series", expected, explanation, passed)


def _decision(study: Study, series: Series, route: Route) -> tuple[RouteDecision, Sequence[Instance]]:
    """Return the decision on a series, and the images that fit every condition."""
    instances: Sequence[Instance] = series.instances
    checks = []
    for condition in (*_built_in(route), *_anatomic(route), *_all_tagged(route.tags)):
        check, instances = condition.narrow(instances)
        checks.append(check)
    checks += _counted(route.tags, study, series)
    checks += _required(route, study)
    enough = len(instances) >= route.min_instances
    checks.append(Check(ENOUGH_IMAGES, f">={route.min_instances}", _counted_images(instances), enough))
    return RouteDecision(route.name, series.series_instance_uid, tuple(checks)), instances


def _counted_images(instances: Sequence[Instance]) -> str:
    """Return the number of images, and that they are multi-frame images where an image is."""
    frames = {text for instance in instances if (text := instance.text("NumberOfFrames")).isdecimal()} - {"1"}
    return f"{len(instances)}" + (f", multi-frame of {', '.join(sorted(frames))} frames" if frames else "")


def decide(study: Study, routes: Iterable[Route]) -> tuple[RouteDecision, ...]:
    """Return the decision of every route on every series, in the order of routes and series.

    Raises: ConfigError if a route has a broken pattern.
    """
    return tuple(_decision(study, series, route)[0] for route in routes for series in study.series)


def chosen(study: Study, route: Route) -> Study:
    """Return the study with the images that match the route, and the route's companions, such as a report.

    A job reads exactly these instances; no instance if no image matches.
    """
    decided = [(series, *_decision(study, series, route)) for series in study.series]
    matched = [replace(series, instances=tuple(images)) for series, decision, images in decided if decision.matched]
    companions = [companion for series in study.series if (companion := _companion(series, route)).instances]
    series = (*matched, *companions) if matched else ()
    return replace(study, series=series, wanted_candidates=route.wanted_candidates)


def _companion(series: Series, route: Route) -> Series:
    """Return the series with its companions of the route; documents of this node are no companions."""
    instances = series.instances if series.modality in route.companions else ()
    return replace(series, instances=tuple(instance for instance in instances if not is_ours(instance)))


def explained(decision: RouteDecision) -> str:
    """Return the decision as one sentence: the first condition that failed, or what decided."""
    for check in decision.checks:
        if not check.passed:
            return f"{decision.route}: no, it {difference(check.attribute, check.expected, check.found)}"
    return f"{decision.route}: yes, {deciding_words(decision.checks)}"


def keywords(routes: Iterable[Route]) -> frozenset[str]:
    """Return every keyword that the routes check, for `headers.instance`."""
    return frozenset(
        keyword
        for route in routes
        for tags in (route.tags, route.urgent_tags, *route.required_series)
        for keyword in tags
    )


def priority_of(study: Study, route: Route) -> int:
    """Return the priority of the job of a study: 1 where the header of an image says that it is urgent."""
    fits = {keyword: compiled(pattern) for keyword, pattern in route.urgent_tags.items()}
    is_urgent = fits and any(
        all(fit(instance.header.get(keyword)) for keyword, fit in fits.items()) for instance in study.instances
    )
    return _FIRST if is_urgent else route.priority


def is_urgent(study: Study, routes: Iterable[Route]) -> bool:
    """Return whether a route would read the study before all others."""
    return any(priority_of(study, route) == _FIRST for route in routes)


def refuse_broken(route: Route) -> None:
    """Refuse a route that could never match as meant.

    Raises: ConfigError naming the route and its unknown modality, body part or keyword, or its broken pattern.
    """
    subject = f"route {route.name!r}"
    priors = route.priors
    for modality in (*route.modality, *route.companions, *(priors.modality if priors else ())):
        if not _MODALITY.fullmatch(modality):
            raise ConfigError(f"{subject}: {modality!r} is no Modality; give one such as CT, in capital letters")
    _refuse_unknown_part(route, subject)
    for tags in (route.tags, route.urgent_tags, *route.required_series, *((priors.tags,) if priors else ())):
        for keyword, pattern in tags.items():
            if tag_for_keyword(keyword) is None:
                raise ConfigError(f"{subject}: {keyword!r} is no keyword of PS3.6; give one such as PixelSpacing")
            try:
                compiled(pattern)
            except ConfigError as error:
                raise ConfigError(f"{subject}, {keyword}: {error}") from error


def _refuse_unknown_part(route: Route, subject: str) -> None:
    """Raise ConfigError if no image can show the body parts of a route."""
    named_parts = (*route.body_part, *(route.priors.body_part if route.priors else ()))
    if unknown := sorted({part.upper() for part in named_parts} - PARTS):
        known_parts = ", ".join(sorted(PARTS))
        raise ConfigError(f"{subject}: body part {unknown[0]!r} is unknown; give one of {known_parts}")
    parts = {part.upper() for part in route.body_part}
    if route.body_part_from is BodyPartSource.PIXELS and not parts & SEEN_PARTS:
        seen_parts = " or ".join(sorted(SEEN_PARTS))
        raise ConfigError(f"{subject}: body_part_from = 'pixels' needs {seen_parts} in body_part")
