"""Regions as Grayscale Softcopy Presentation States: lines at their pixels, over the image as its header shows it."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conformance.made import CONTEXT, a_finding, a_result, box, source, sources_of
from conformance.test_segmentations import slices
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from support import instance_ref, judges, run

from ainode.node import reports
from ainode.node.deciding import router
from ainode.node.disk import sha256_of
from ainode.node.domain import UID, DocumentKind, Finding, GraphicType, InstanceRef, Region, Result
from ainode.node.encoding import headers
from ainode.node.routes import Route

STATE = DocumentKind.PRESENTATION_STATE
WANTED = replace(CONTEXT, optional=(STATE,))
WARNING = "AI, RESEARCH USE ONLY"


def made(result: Result, sources: dict[UID, Path]) -> list[Dataset]:
    documents = reports.documents(result, sources, WANTED)
    return [dcmread(BytesIO(one.content)) for one in documents if one.kind is STATE]


def graphics(state: Dataset) -> list[tuple[str, NDArray[np.float64]]]:
    """Return type and points of each line, in the order of the object."""
    return [
        (one.GraphicType, np.array(one.GraphicData).reshape(-1, 2))
        for annotation in state.GraphicAnnotationSequence
        for one in annotation.GraphicObjectSequence
    ]


def texts(state: Dataset) -> dict[str, tuple[float, ...]]:
    """Return each text and its left, top, right, bottom."""
    return {
        one.UnformattedTextValue: (*one.BoundingBoxTopLeftHandCorner, *one.BoundingBoxBottomRightHandCorner)
        for annotation in state.GraphicAnnotationSequence
        for one in annotation.TextObjectSequence
    }


def with_findings(path: Path, *findings: Finding) -> Result:
    return replace(a_result(path), findings=findings, captures=())


def marked(image: InstanceRef, number: int = 1) -> Finding:
    return a_finding(number, image, region=box(image, number))


def test_regions_are_lines_at_the_pixels_where_they_were_put_with_their_labels(tmp_path: Path) -> None:
    path = source(tmp_path)
    (state,) = made(a_result(path, boxes=2), sources_of(path))
    expected = [np.array(box(instance_ref(path), number).points) for number in (1, 2)]
    assert [kind for kind, _ in graphics(state)] == ["POLYLINE"] * 2
    assert all(np.array_equal(points, one) for (_, points), one in zip(graphics(state), expected, strict=True))
    assert set(texts(state)) == {WARNING, "Lesion 89 %", "Lesion 88 %"}
    for left, top, right, bottom in texts(state).values():
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 300
    (annotation,) = state.GraphicAnnotationSequence
    assert annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID == dcmread(path).SOPInstanceUID
    units = {one.GraphicAnnotationUnits for one in annotation.GraphicObjectSequence}
    assert units == {"PIXEL"}


def test_a_region_of_a_capture_alone_is_drawn_too_and_one_of_both_once(tmp_path: Path) -> None:
    path = source(tmp_path)
    image = instance_ref(path)
    result = with_findings(path, marked(image))
    capture = replace(a_result(path).captures[0], findings=(marked(image), marked(image, 2)))
    (state,) = made(replace(result, captures=(capture,)), sources_of(path))
    assert len(graphics(state)) == 2


def test_a_point_is_a_point_and_what_leaves_the_image_by_rounding_is_cut(tmp_path: Path) -> None:
    path = source(tmp_path)
    image = instance_ref(path)
    point = Region(image, ((12.5, 30.25),), GraphicType.POINT)
    outside = Region.box(image, left=-0.3, top=10, right=200.4, bottom=300.2)
    findings = [a_finding(number, image, region=region) for number, region in enumerate((point, outside), start=1)]
    (state,) = made(with_findings(path, *findings), sources_of(path))
    (kind, points), (_, cut) = graphics(state)
    assert (kind, points.tolist()) == ("POINT", [[12.5, 30.25]])
    assert (cut.min(axis=0).tolist(), cut.max(axis=0).tolist()) == ([0, 10], [200, 300])


def test_slices_shown_alike_share_an_object_and_another_window_is_another_one(tmp_path: Path) -> None:
    paths = slices(tmp_path / "study", 3)
    for path, center in zip(paths, (40, 40, -600), strict=True):
        image = dcmread(path)
        image.WindowCenter, image.WindowWidth = center, 400
        image.save_as(path)
    refs = [instance_ref(path) for path in paths]
    result = replace(with_findings(paths[0], *(marked(ref) for ref in refs)), evidence=tuple(refs))
    states = made(result, {ref.sop_instance_uid: path for ref, path in zip(refs, paths, strict=True)})
    assert [len(state.GraphicAnnotationSequence) for state in states] == [2, 1]
    assert [state.SoftcopyVOILUTSequence[0].WindowCenter for state in states] == [40, -600]
    assert states[1].SeriesNumber == states[0].SeriesNumber + 1
    assert {state.RescaleType for state in states} == {"HU"}


@pytest.mark.parametrize(("modality", "unit"), [("CT", "HU"), ("DX", "US")])
def test_values_of_a_ct_that_names_no_unit_are_hounsfield_units(modality: str, unit: str, tmp_path: Path) -> None:
    path = source(tmp_path, Modality=modality, RescaleType=None)
    (state,) = made(a_result(path, boxes=1), sources_of(path))
    assert state.RescaleType == unit


def test_a_voi_lut_that_is_none_leaves_the_window(tmp_path: Path) -> None:
    path = source(tmp_path, VOILUTSequence=[Dataset()], WindowCenter=40, WindowWidth=400)
    (state,) = made(a_result(path, boxes=1), sources_of(path))
    (voi,) = state.SoftcopyVOILUTSequence
    assert (voi.WindowCenter, "VOILUTSequence" in voi) == (40, False)


HALF: dict[str, dict[str, object]] = {
    "an intercept without a slope": {"RescaleSlope": None},
    "a slope without an intercept": {"RescaleIntercept": None},
    "an empty Modality LUT": {"ModalityLUTSequence": []},
    "an explanation of 70 characters": {
        "WindowCenter": 2000,
        "WindowWidth": 4000,
        "WindowCenterWidthExplanation": "x" * 70,
    },
}


@pytest.mark.filterwarnings("ignore:The value length:UserWarning")
@pytest.mark.parametrize("elements", HALF.values(), ids=HALF)
def test_a_half_filled_display_of_the_image_costs_no_error(elements: dict[str, object], tmp_path: Path) -> None:
    path = source(tmp_path, **elements)
    (state,) = made(with_findings(path, marked(instance_ref(path))), sources_of(path))
    state.save_as(tmp_path / "pr.dcm")
    assert judges.module_errors(tmp_path / "pr.dcm") == []
    assert (state.RescaleIntercept, state.RescaleSlope) == (0, 1)


@pytest.mark.parametrize("spacing", ["0.3", ["0", "0"], ["0.3", "0.3", "0.3"]])
def test_a_spacing_that_is_none_stands_in_no_document(spacing: str | list[str], tmp_path: Path) -> None:
    path = source(tmp_path, PixelSpacing=spacing, ImagerPixelSpacing=None)
    documents = reports.documents(a_result(path, boxes=1), sources_of(path), WANTED)
    kinds = [DocumentKind.SECONDARY_CAPTURE, DocumentKind.PRESENTATION_STATE, DocumentKind.STRUCTURED_REPORT]
    assert sorted(document.kind for document in documents) == sorted(kinds)
    for document in documents:
        stated = dcmread(BytesIO(document.content))
        assert "PixelSpacing" not in stated
        assert all("PresentationPixelSpacing" not in area for area in stated.get("DisplayedAreaSelectionSequence", ()))


def test_none_is_made_without_regions_and_of_color_images(tmp_path: Path) -> None:
    path = source(tmp_path)
    assert made(a_result(path), sources_of(path)) == []
    color = dcmread(path)
    color.PhotometricInterpretation, color.SamplesPerPixel, color.PlanarConfiguration = "RGB", 3, 0
    color.BitsAllocated, color.BitsStored, color.HighBit = 8, 8, 7
    color.PixelData = bytes(3 * color.Rows * color.Columns)
    color["PixelData"].VR = "OB"
    color.save_as(path)
    assert made(a_result(path, boxes=1), sources_of(path)) == []


# Independent judges


def window(image: Dataset) -> None:
    image.WindowCenter, image.WindowWidth = 2000, 1500


def windows(image: Dataset) -> None:
    image.WindowCenter, image.WindowWidth = [2000, 100], [1500, 200]
    image.WindowCenterWidthExplanation = ["BONE", "LUNG"]


def inverted(image: Dataset) -> None:
    window(image)
    image.PhotometricInterpretation, image.PresentationLUTShape = "MONOCHROME1", "INVERSE"


def table(image: Dataset) -> None:
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [4096, 0, 8], bytes(value // 32 + 100 for value in range(4096))
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "OW"
    image.VOILUTSequence = [lut]


@pytest.mark.parametrize("shown", [window, windows, inverted, table])
def test_dcmtk_shows_the_image_under_the_state_as_without_it(shown: Callable[[Dataset], None], tmp_path: Path) -> None:
    path = source(tmp_path)
    image = dcmread(path)
    shown(image)
    image.save_as(path)
    documents = reports.documents(a_result(path, boxes=2), sources_of(path), WANTED)
    state = tmp_path / "state.dcm"
    state.write_bytes(next(one.content for one in documents if one.kind is STATE))
    plain, under = tmp_path / "plain.pgm", tmp_path / "under.pgm"
    for target, options in ((plain, ()), (under, ("-p", state))):
        done = run("dcmp2pgm", *options, path, target)
        assert done.returncode == 0, done.stderr
    before, after = (np.asarray(Image.open(one)).astype(int) for one in (plain, under))
    assert before.std() > 1
    assert np.abs(before - after).max() <= 1


@pytest.mark.parametrize("image", ["slices", "radiograph"])
def test_the_validators_find_no_error(image: str, tmp_path: Path) -> None:
    paths = slices(tmp_path / "study", 2) if image == "slices" else [source(tmp_path)]
    refs = [instance_ref(path) for path in paths]
    result = replace(with_findings(paths[0], *(marked(ref) for ref in refs)), evidence=tuple(refs))
    sources = {ref.sop_instance_uid: path for ref, path in zip(refs, paths, strict=True)}
    path = tmp_path / "state.dcm"
    path.write_bytes(next(one.content for one in reports.documents(result, sources, WANTED) if one.kind is STATE))
    assert judges.module_errors(path) == []
    assert judges.set_errors([path], paths) == []
    # dcmpschk 3.6.7 calls every DT value wrong, also one that its own expression in the message matches.
    state = dcmread(path)
    for item in state.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    state.save_as(path)
    checked = run("dcmpschk", path)
    assert "Test passed" in checked.stderr, checked.stderr


def test_our_own_optional_documents_are_neither_read_nor_companions_of_what_is_read(tmp_path: Path) -> None:
    (path,) = slices(tmp_path / "study", 1)
    wanted = replace(CONTEXT, optional=tuple(kind for kind in DocumentKind if kind.is_optional))
    files = [path]
    for document in reports.documents(a_result(path, boxes=1), sources_of(path), wanted):
        files.append(tmp_path / f"{document.kind}.dcm")
        files[-1].write_bytes(document.content)
    study = headers.study(headers.instance(one, sha256=sha256_of(one)) for one in files)
    assert {series.modality for series in study.series} == {"CT", "DOC", "OT", "PR", "SEG", "SR"}
    route = Route("any", "any", modality=("CT", "SEG", "PR"), companions=("SEG", "PR", "SR"))
    assert [one.ref for one in router.chosen(study, route).instances] == [instance_ref(path)]
