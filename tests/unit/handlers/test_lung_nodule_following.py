"""A nodule through the studies of one patient: carried to the earlier CTs, measured, and what is left out is said."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import affine_transform
from support import installed, shared
from support.dated import HEADER, Dated, ball_mm3, dated, growth_percent
from support.locations import locations

installed("torch", "timm", "openvino", "safetensors")

from unit.models.lung_nodule_weights import random_store  # noqa: E402  # after the packages were seen to be here

from ainode.handlers.lung_nodule import LungNodule, build  # noqa: E402
from ainode.handlers.lung_nodule.places import Outliner, TracedNodule  # noqa: E402
from ainode.handlers.lung_nodule.tracing import trace  # noqa: E402
from ainode.node import reports, testing  # noqa: E402
from ainode.node.domain import (  # noqa: E402
    UID,
    DocumentContext,
    Instance,
    Location,
    Measurement,
    OutOfScope,
    Position,
    Result,
    Selection,
    Study,
    SyntheticImage,
    Value,
    probability_text,
)
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.geometry import Stack, stack, volume  # noqa: E402
from ainode.node.reading.weights import ModelEnvironment  # noqa: E402

REAL = "data/dicom/ct_chest_thin_R01-001"
NOW, THEN, LONG_AGO = "20260101", "20250705", "20250101"
CONTEXT = DocumentContext(datetime(2026, 1, 1, tzinfo=UTC), UID("1.2.3.4"), "test", ("ainode 0",), "none")


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> LungNodule:
    """A handler whose weights have the right shape and no worth."""
    folder = tmp_path_factory.mktemp("weights")
    return build(ModelEnvironment(random_store(folder), folder / "cache", device="cpu"))


@pytest.fixture(scope="module")
def outline(handler: LungNodule) -> Outliner:
    """Return the outlines of the shipped network."""
    return handler._answering.reader.nodule_at


def studied(made: Dated, folder: Path, name: str, *, point: bool = False) -> Study:
    return of_files(made.write(folder / name, name, point=point))


def of_files(paths: tuple[Path, ...]) -> Study:
    return headers.study(headers.instance(path, sha256="") for path in paths)


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The newest CT, with a report that points at its nodule of 13 mm."""
    return studied(dated(NOW, 13.0), tmp_path_factory.mktemp("now"), "now", point=True)


def read(handler: LungNodule, study: Study) -> Result:
    selection = handler.select(study)
    assert isinstance(selection, Selection), selection
    result = handler.read(selection)
    assert isinstance(result, Result)
    return result


def measured(result: Result) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {}
    for one in result.findings[0].measurements:
        found.setdefault(one.concept.value, []).append(one)
    return found


def said(result: Result) -> dict[str, str]:
    return dict(result.algorithm.parameters)


def test_three_dates_have_three_weights_and_the_growth_of_the_phantom(
    handler: LungNodule, now: Study, tmp_path: Path
) -> None:
    priors = (
        studied(dated(LONG_AGO, 8.0), tmp_path, "long ago"),
        studied(dated(THEN, 10.0), tmp_path, "then"),
    )
    result = read(handler, replace(now, priors=priors))
    found = measured(result)
    newest_first = [now.study_instance_uid, priors[1].study_instance_uid, priors[0].study_instance_uid]
    assert [one.inferred_from[0].study_instance_uid for one in found["attention-weight"]] == newest_first
    assert sum(one.value for one in found["attention-weight"]) == pytest.approx(1, abs=1e-3)
    assert [one.value for one in found["volume-growth"]] == [
        pytest.approx(growth_percent(10, 13), rel=0.1),
        pytest.approx(growth_percent(8, 13), rel=0.1),
    ]
    days = 180 * np.log(2) / np.log((13 / 10) ** 3)
    assert found["doubling-time"][0].value == pytest.approx(days, rel=0.1)
    for one, prior in zip(found["volume-growth"], newest_first[1:], strict=True):
        assert [ref.study_instance_uid for ref in one.inferred_from] == [now.study_instance_uid, prior]
        assert set(one.inferred_from) <= set(result.key_images)
    assert [one.unit.value for key in ("volume-growth", "doubling-time") for one in found[key]] == ["%", "%", "d", "d"]
    assert said(result)["position from"] == "SR, registration"
    assert said(result)["time points"] == "3"
    assert said(result)["growth"].count(", slices 1.2 and 1.2 mm") == 2
    assert list(dict.fromkeys(ref.study_instance_uid for ref in result.evidence)) == newest_first
    assert [(point.study_instance_uid, point.days_before) for point in result.course] == [
        (newest_first[2], 365),
        (newest_first[1], 180),
        (newest_first[0], 0),
    ]
    assert [point.values["attention"] for point in result.course] == pytest.approx(
        [one.value for one in reversed(found["attention-weight"])], abs=1e-4
    )
    sizes = [point.values["diameter in mm"] for point in result.course]
    # The outline is as generous as the readers whom the network learned from.
    assert sizes == pytest.approx([8 + 0.8, 10 + 0.8, 13 + 0.8], abs=1)
    doubling_days = [point.values.get("doubling time in days") for point in result.course]
    assert doubling_days == [pytest.approx(found["doubling-time"][1].value, abs=1), pytest.approx(days, rel=0.1), None]


def test_the_size_of_today_is_reported_in_whole_millimeters(handler: LungNodule, now: Study) -> None:
    result = read(handler, now)
    found = {code: (one[0].value, one[0].unit.value) for code, one in measured(result).items()}
    # As generous as the readers whom the network learned from: the card says by how much.
    assert found["81827009"] == (14, "mm")
    assert found["103339001"][0] == pytest.approx(14, abs=1)
    assert found["103340004"][0] == pytest.approx(14, abs=1)
    assert 1 < found["118565006"][0] / ball_mm3(13) < 1.4
    assert said(result)["size"] == "nodule 1: by the node's outline"
    assert found["118565006"][1] == "mm3"
    assert "volume-growth" not in found
    region = result.findings[0].region
    assert region is not None
    (left, top), (right, bottom) = region.points[0], region.points[2]
    # as measured, plus twice how far the measured middle is from the position, which is less than a voxel
    assert 1.2 * (right - left) == pytest.approx(13.5, abs=1.5)
    assert 1.2 * (bottom - top) == pytest.approx(13.5, abs=1.5)


def test_a_nodule_outside_of_the_prior_is_a_time_point_fewer_and_that_is_said(
    handler: LungNodule, now: Study, tmp_path: Path
) -> None:
    prior = studied(dated(THEN, 10.0, shifted_mm=50.0), tmp_path, "then")
    result = read(handler, replace(now, priors=(prior,)))
    assert "attention-weight" not in measured(result)
    assert said(result)["priors left out"].startswith("nodule 1 in prior 1: outside, ")
    assert any(line.startswith("Prior 1 left out: ") for line in result.captures[0].captions)
    assert {ref.study_instance_uid for ref in result.evidence} == {now.study_instance_uid}


def test_a_prior_that_does_not_match_is_a_time_point_fewer_and_the_next_one_is_followed(
    handler: LungNodule, now: Study, tmp_path: Path
) -> None:
    made = dated(THEN, 10.0)
    air = [replace(one, pixels=bytes(len(one.pixels))) for one in made.images]
    refused = studied(Dated(tuple(air), made.position_mm), tmp_path, "air")
    followed = studied(dated(LONG_AGO, 8.0), tmp_path, "long ago")
    result = read(handler, replace(now, priors=(followed, refused)))
    assert said(result)["priors left out"].startswith("nodule 1 in prior 1: no-body, ")
    assert len(measured(result)["attention-weight"]) == 2
    assert measured(result)["volume-growth"][0].value == pytest.approx(growth_percent(8, 13), rel=0.1)


def test_a_prior_that_cannot_be_read_is_said(handler: LungNodule, now: Study, tmp_path: Path) -> None:
    made = dated(THEN, 10.0)
    coarse = studied(Dated(made.images[::6], made.position_mm), tmp_path, "coarse")
    broken = studied(dated(LONG_AGO, 8.0), tmp_path, "broken")
    path = broken.instances[20].path
    path.write_bytes(path.read_bytes()[:-20_000])
    result = read(handler, replace(now, priors=(broken, coarse)))
    assert "attention-weight" not in measured(result)
    assert "prior 1: too-coarse, " in said(result)["priors left out"]
    assert "prior 2: broken, " in said(result)["priors left out"]


def test_ground_glass_is_followed_and_called_so_and_no_growth_is_said(handler: LungNodule, tmp_path: Path) -> None:
    glass = studied(dated(NOW, 16.0, density_hu=-600.0), tmp_path, "now", point=True)
    prior = studied(dated(THEN, 13.0, density_hu=-600.0), tmp_path, "then")
    result = read(handler, replace(glass, priors=(prior,)))
    found = measured(result)
    assert len(found["attention-weight"]) == 2
    assert found["81827009"][0].value > 0
    assert "volume-growth" not in found
    assert said(result)["growth left out"].startswith("nodule 1 since prior 1: not-solid, ")
    assert [value.meaning for _, value in result.findings[0].qualities] == [
        "Ground glass opacity",
        "A person or another system",
    ]
    assert any(line.endswith(", ground glass") for line in result.captures[0].captions)


def test_the_report_has_the_tracking_uid_of_who_pointed(handler: LungNodule, now: Study) -> None:
    (pointed,) = locations(now.instances)
    result = read(handler, now)
    assert pointed.tracking_uid
    assert result.findings[0].tracking_uid == pointed.tracking_uid
    assert tracked(result, now) == pointed.tracking_uid


@pytest.mark.parametrize("given", ["", "no uid", "1.2..3", "1." * 40 + "1"])
def test_without_a_usable_tracking_uid_the_reading_makes_one(handler: LungNodule, now: Study, given: str) -> None:
    asked = replace(locations(now.instances)[0], tracking_uid=UID(given))
    study = replace(now, locations=(asked,))
    uid = tracked(read(handler, study), study)
    assert uid.startswith("2.25.")
    assert uid == tracked(read(handler, study), study)


def tracked(result: Result, study: Study) -> str:
    """Return the Tracking UID in the encoded report."""
    path = study.instances[0].path.parent / "report" / "report.dcm"
    (found,) = locations([reported(result, study, path)[-1], *study.instances], own_reports=True)[-1:]
    return found.tracking_uid


def reported(result: Result, study: Study, path: Path) -> tuple[Instance, ...]:
    """Return the instances of a study with the report on it."""
    sources = {one.ref.sop_instance_uid: one.path for one in study.instances}
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(reports.documents(result, sources, CONTEXT)[-1].content)
    return (*study.instances, headers.instance(path, sha256=""))


def test_our_own_report_of_an_earlier_study_says_where_the_nodule_was(
    handler: LungNodule, now: Study, tmp_path: Path
) -> None:
    earlier = dated(THEN, 10.0)
    prior = studied(earlier, tmp_path, "then")
    frame = UID(prior.instances[0].text("FrameOfReferenceUID"))
    (pointed,) = locations(now.instances)
    then = replace(prior, locations=(Location(earlier.position_mm, "request", frame, pointed.tracking_uid),))
    ours = headers.study(reported(read(handler, then), prior, tmp_path / "ours" / "report.dcm"))
    assert locations(ours.instances) == ()
    (found,) = locations(ours.instances, own_reports=True)
    assert found.position_mm == pytest.approx(earlier.position_mm, abs=1.2)
    result = read(handler, replace(now, priors=(ours,)))
    assert said(result)["position from"] == "SR, own report"
    assert len(measured(result)["attention-weight"]) == 2
    assert result.findings[0].tracking_uid == pointed.tracking_uid == found.tracking_uid


def test_a_prior_that_is_pointed_into_has_the_nodule_where_the_mark_is_near_to_where_it_must_be(
    handler: LungNodule, now: Study, tmp_path: Path
) -> None:
    prior = studied(dated(THEN, 10.0), tmp_path, "then", point=True)
    assert locations(prior.instances)[0].tracking_uid != locations(now.instances)[0].tracking_uid
    result = read(handler, replace(now, priors=(prior,)))
    assert said(result)["position from"] == "SR"
    assert measured(result)["volume-growth"][0].value == pytest.approx(growth_percent(10, 13), rel=0.1)
    told = said(result)["marks in priors"]
    assert told.startswith("nodule 1 in prior 1: SR, ")
    assert told.endswith(" mm from its registered place")


@pytest.mark.parametrize("away_mm", [9, 25])
def test_the_mark_of_another_nodule_in_a_prior_is_not_taken_for_this_one(
    handler: LungNodule, now: Study, tmp_path: Path, away_mm: int
) -> None:
    made = dated(THEN, 10.0)
    x, y, z = made.position_mm
    prior = studied(Dated(made.images, (x + away_mm, y, z)), tmp_path, "then", point=True)
    assert len(locations(prior.instances)) == 1
    result = read(handler, replace(now, priors=(prior,)))
    assert said(result)["position from"] == "SR, registration"
    assert measured(result)["volume-growth"][0].value == pytest.approx(growth_percent(10, 13), rel=0.1)


# Nobody points into the newest study


def unpointed(study: Study) -> Study:
    return replace(study, series=tuple(one for one in study.series if one.modality == "CT"))


@pytest.fixture(scope="module")
def pointed_then(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """An earlier CT, with a report that points at its nodule of 10 mm."""
    return studied(dated(THEN, 10.0), tmp_path_factory.mktemp("pointed then"), "then", point=True)


def reports_of(study: Study) -> set[UID]:
    return {one.ref.sop_instance_uid for one in study.instances if one.text("Modality") == "SR"}


def test_what_only_the_oldest_study_points_at_is_carried_to_the_newest_and_to_the_one_between(
    handler: LungNodule, outline: Outliner, now: Study, pointed_then: Study, tmp_path: Path
) -> None:
    oldest = studied(dated(LONG_AGO, 8.0), tmp_path, "long ago", point=True)
    result = read(handler, replace(unpointed(now), priors=(oldest, unpointed(pointed_then))))
    found = measured(result)
    assert len(found["attention-weight"]) == 3
    assert [one.value for one in found["volume-growth"]] == [
        pytest.approx(growth_percent(10, 13), rel=0.1),
        pytest.approx(growth_percent(8, 13), rel=0.1),
    ]
    assert result.findings[0].tracking_uid == locations(oldest.instances)[0].tracking_uid != ""
    region = result.findings[0].region
    assert region is not None
    selection = handler.select(replace(now, priors=()))
    assert isinstance(selection, Selection)
    (nodule,) = trace(selection, outline).nodules
    assert isinstance(nodule, TracedNodule)
    assert region.image == nodule.current.key_slice
    (left, top), (right, bottom) = region.points[0], region.points[2]
    _, row, column = nodule.current.pixel_position
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((column + 0.5, row + 0.5), abs=1)
    told = "nodule 1 from SR in prior 2, 365 days before, since nobody pointed at it in this study"
    assert said(result)["carried"] == told
    assert said(result)["registration"].startswith("nodule 1: correlation ")
    assert "Nobody pointed here; position carried from SR in prior 2, 365 days before" in result.captures[0].captions
    assert reports_of(oldest) <= {ref.sop_instance_uid for ref in result.evidence}
    assert result.evidence[0].study_instance_uid == now.study_instance_uid
    assert result.seconds["register"] > 0


def test_our_own_report_of_the_study_before_says_where_the_nodule_is_and_is_named(
    handler: LungNodule, now: Study, pointed_then: Study
) -> None:
    first = read(handler, pointed_then)
    assert first.seconds == {}
    path = pointed_then.instances[0].path.parent / "first" / "report.dcm"
    ours = unpointed(pointed_then)
    ours = headers.study((*reported(first, ours, path),))
    result = read(handler, replace(unpointed(now), priors=(ours,)))
    assert measured(result)["volume-growth"][0].value == pytest.approx(growth_percent(10, 13), rel=0.1)
    assert result.findings[0].tracking_uid == first.findings[0].tracking_uid
    assert said(result)["carried"].startswith("nodule 1 from own report in prior 1, 180 days before")
    assert reports_of(ours) <= {ref.sop_instance_uid for ref in result.evidence}
    selection = handler.select(
        replace(unpointed(now), priors=(replace(ours, series=(*ours.series, *pointed_then.series)),))
    )
    assert isinstance(selection, Selection)
    assert [one.source for one in selection.locations] == ["SR"]


def test_the_report_of_another_model_of_ours_points_at_nothing(
    handler: LungNodule, now: Study, pointed_then: Study
) -> None:
    other = replace(read(handler, pointed_then), title="Lung tumor")
    path = pointed_then.instances[0].path.parent / "other" / "report.dcm"
    prior = headers.study(reported(other, unpointed(pointed_then), path))
    assert locations(prior.instances, own_reports=True)
    assert declined(handler, replace(unpointed(now), priors=(prior,))).code == "no-position"


def declined(handler: LungNodule, study: Study) -> OutOfScope:
    selection = handler.select(study)
    answer = handler.read(selection) if isinstance(selection, Selection) else selection
    assert isinstance(answer, OutOfScope)
    return answer


def test_a_nodule_that_the_newest_ct_does_not_reach_is_declined_and_that_is_said(
    handler: LungNodule, pointed_then: Study, tmp_path: Path
) -> None:
    above = studied(dated(NOW, 13.0, shifted_mm=50.0), tmp_path, "now")
    answer = declined(handler, replace(above, priors=(pointed_then,)))
    assert answer.code == "outside"
    assert "that SR points at in the CT 180 days before is not found in this one: " in answer.reason


def test_a_nodule_that_is_gone_is_declined(handler: LungNodule, pointed_then: Study, tmp_path: Path) -> None:
    gone = studied(dated(NOW, 0.5), tmp_path, "now")
    answer = declined(handler, replace(gone, priors=(pointed_then,)))
    assert answer.code in {"nothing-alike", "nothing-dense"}


def test_of_two_nodules_one_is_read_and_the_other_is_said_to_be_missing(handler: LungNodule, tmp_path: Path) -> None:
    made = dated(THEN, 10.0)
    x, y, z = made.position_mm
    paths = testing.write(made.images, tmp_path / "then", study="then", positions_mm=((x, y, z - 30), (x, y, z)))
    above = studied(dated(NOW, 13.0, shifted_mm=20.0), tmp_path, "now")
    result = read(handler, replace(above, priors=(of_files(paths),)))
    assert [one.tracking_identifier for one in result.findings] == ["nodule 2"]
    assert said(result)["not read"].startswith("nodule 1: outside, ")
    assert said(result)["carried"].startswith("nodule 2 from SR in prior 1, ")


def test_who_points_outside_of_the_newest_ct_is_not_replaced_by_an_earlier_report(
    handler: LungNodule, now: Study, pointed_then: Study
) -> None:
    asked = Location((0.0, 0.0, -900.0), "request")
    study = replace(unpointed(now), priors=(pointed_then,), locations=(asked,))
    assert declined(handler, study).code == "position-outside"


# Two nodules side by side


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Study, tuple[Position, ...]]:
    """Two CTs of a nodule that grew from 9 to 10 mm and, 13 mm beside it, one of 6 mm; where both are, then and now."""
    folder = tmp_path_factory.mktemp("pair")
    made = [beside(dated(THEN, 9.0)), beside(dated(NOW, 10.0))]
    then, now = (studied(one, folder, name) for one, name in zip(made, ("then", "now"), strict=True))
    return now, then, tuple(place for one in made for place in (one.position_mm, neighbor(one.position_mm)))


def neighbor(position_mm: Position) -> Position:
    x, y, z = position_mm
    return (x + 13, y, z)


def beside(made: Dated, diameter_mm: float = 6.0) -> Dated:
    """Return a scan with one more nodule."""
    there = np.array(neighbor(made.position_mm))
    images = []
    for one in made.images:
        origin, (row_mm, column_mm) = (np.array(one.header[key]) for key in ("ImagePositionPatient", "PixelSpacing"))
        rows, columns = np.mgrid[: one.rows, : one.columns]
        pixels_mm = np.stack((columns * column_mm, rows * row_mm, 0 * rows), -1)
        away = np.linalg.norm(pixels_mm + origin - there, axis=-1)
        inside = 1 / (1 + np.exp(4 * (away - diameter_mm / 2)))
        values = np.frombuffer(one.pixels, "<u2").reshape(one.rows, one.columns)
        painted = np.maximum(values, np.rint(values + inside * (1054.0 - values)))
        images.append(replace(one, pixels=painted.astype("<u2").tobytes()))
    return Dated(tuple(images), made.position_mm)


def marked(outline: Outliner, now: Study, then: Study, *marks: Location) -> list[TracedNodule]:
    """Return the nodules of two studies that are marked so; the first marks are in the newest study."""
    frames = {one: UID(one.instances[0].text("FrameOfReferenceUID")) for one in (now, then)}
    framed = [replace(one, frame_of_reference_uid=frames[then if one.source == "prior" else now]) for one in marks]
    nodules = trace(Selection(now.study_instance_uid, (*now.series, *then.series), tuple(framed)), outline).nodules
    assert all(isinstance(one, TracedNodule) for one in nodules)
    return [one for one in nodules if isinstance(one, TracedNodule)]


@pytest.mark.parametrize(
    ("today", "then"),
    [(("2.25.1", "2.25.2"), "2.25.2"), (("2.25.1", "2.25.2"), "2.25.3"), (("", ""), "2.25.3"), (("2.25.1",), "2.25.3")],
)
def test_a_nodule_is_not_followed_to_the_mark_of_the_one_beside_it(
    outline: Outliner, pair: tuple[Study, Study, tuple[Position, ...]], today: tuple[str, ...], then: str
) -> None:
    now, prior, (first_then, second_then, *both_now) = pair
    here = (Location(at, "SR", tracking_uid=UID(uid)) for at, uid in zip(both_now, today, strict=False))
    first, *second = marked(outline, now, prior, *here, Location(second_then, "prior", tracking_uid=UID(then)))
    ((_, place),) = first.priors
    assert place.location.source == "registration"
    assert place.location.position_mm == pytest.approx(first_then, abs=1)
    assert first.tracking_uid == today[0]
    for one in second:
        assert one.priors[0][1].location.position_mm == second_then
        assert one.tracking_uid == (today[1] or then)


def test_two_nodules_of_one_name_are_not_called_alike(
    outline: Outliner, pair: tuple[Study, Study, tuple[Position, ...]]
) -> None:
    now, prior, (*_, first, second) = pair
    name = UID("2.25.1")
    nodules = marked(
        outline, now, prior, Location(first, "SR", tracking_uid=name), Location(second, "SR", tracking_uid=name)
    )
    assert [one.tracking_uid for one in nodules] == [name, ""]


def test_nodules_share_the_slices_that_they_have_in_common(
    outline: Outliner, pair: tuple[Study, Study, tuple[Position, ...]]
) -> None:
    now, prior, (*_, first, second) = pair
    one, other = marked(outline, now, prior, Location(first, "SR"), Location(second, "SR"))
    for here, there in zip(one.places, other.places, strict=True):
        assert np.shares_memory(here.volume.values, there.volume.values)
        assert here.volume.values.shape[0] == len(here.slices.instances)


# Slices of other thickness


def test_growth_between_thin_and_thick_slices_is_left_out_and_that_is_said(
    handler: LungNodule, now: Study, tmp_path: Path
) -> None:
    result = read(handler, replace(now, priors=(studied(thicker(dated(THEN, 10.0)), tmp_path, "then"),)))
    found = measured(result)
    assert len(found["attention-weight"]) == 2
    assert not {"volume-growth", "doubling-time"} & set(found)
    told = "nodule 1 since prior 1: slices, the slices are 4.8 and 1.2 mm thick; growth needs 1.5 or less"
    assert said(result)["growth left out"] == told
    assert f"Since prior 1: growth not measured: {told.split('slices, ')[1]}" in result.captures[0].captions


def thicker(made: Dated, slices: int = 4) -> Dated:
    """Return the scan in slices that are means of several."""
    images = []
    for first in range(0, len(made.images) - slices + 1, slices):
        block = made.images[first : first + slices]
        mean = np.mean([np.frombuffer(one.pixels, "<u2") for one in block], axis=0)
        x, y, z = np.mean([np.array(one.header["ImagePositionPatient"]) for one in block], axis=0)
        own: dict[str, Value] = {"ImagePositionPatient": (float(x), float(y), float(z)), "SliceThickness": 1.2 * slices}
        header = {**block[0].header, **own}
        images.append(replace(block[0], pixels=np.rint(mean).astype("<u2").tobytes(), header=header))
    return Dated(tuple(images), made.position_mm)


def test_thick_slices_that_overlap_are_thick(handler: LungNodule, now: Study, tmp_path: Path) -> None:
    prior = studied(dated(THEN, 10.0, SliceThickness=3.0), tmp_path, "then")
    assert "slices are 3 and 1.2 mm thick" in said(read(handler, replace(now, priors=(prior,))))["growth left out"]


# What the report says of each


def test_what_is_said_of_several_nodules_names_them(
    handler: LungNodule, pair: tuple[Study, Study, tuple[Position, ...]]
) -> None:
    now, prior, (*_, first, second) = pair
    frame = UID(now.instances[0].text("FrameOfReferenceUID"))
    both = tuple(Location(position, "request", frame) for position in (first, second))
    result = read(handler, replace(now, priors=(prior,), locations=both))
    assert said(result)["profile"] == "nodule 1: temporal; nodule 2: temporal"
    assert said(result)["time points"] == "nodule 1: 2; nodule 2: 2"
    alone = [result.scores[f"nodule {n} probability of the current scan alone"] for n in (1, 2)]
    told = (f"nodule {n}: {probability_text(one, 4)}, lidc, research weights" for n, one in enumerate(alone, start=1))
    assert said(result)["current scan alone"] == "; ".join(told)
    assert len(result.captures) == len(result.findings) == 2
    assert [segment.finding for segment in result.segmented.segments] == ["nodule 1", "nodule 2"]  # type: ignore[union-attr]


def test_two_marks_in_one_nodule_leave_its_pixels_to_the_first_and_the_other_has_no_size(
    handler: LungNodule, now: Study
) -> None:
    selection = handler.select(now)
    assert isinstance(selection, Selection)
    (mark,) = selection.locations
    x, y, z = mark.position_mm
    other = Location((x + 2, y, z), "request", mark.frame_of_reference_uid)
    result = handler.read(replace(selection, locations=(mark, other)))
    assert isinstance(result, Result)
    volumes = [
        [one.value for one in finding.measurements if one.concept.meaning == "Volume"] for finding in result.findings
    ]
    assert result.segmented is not None
    counts = [sum(one.labels.count(label) for one in result.segmented.maps) for label in (1, 2)]
    assert volumes == [[round(counts[0] * 1.2**3)], []]
    assert said(result)["size left out"].startswith("nodule 2: shared, its outline has pixels of nodule 1")


# The real thin CT, and the same patient lying otherwise


def test_a_real_ct_moved_and_turned_is_matched_within_two_millimeters(
    handler: LungNodule, outline: Outliner, tmp_path: Path
) -> None:
    folder = shared(REAL)
    paths = sorted((folder / "dicom").rglob("*.dcm"))
    x, y, z = json.loads((folder / "nodule.json").read_text("utf-8"))["nodule_center_LPS_mm"]
    study = replace(of_files(tuple(paths)), locations=(Location((x, y, z), "request"),))
    prior, there = moved(study, (x, y, z), tmp_path)
    selection = handler.select(replace(study, priors=(prior,)))
    assert isinstance(selection, Selection)
    (nodule,) = trace(selection, outline).nodules
    assert isinstance(nodule, TracedNodule)
    ((number, place),) = nodule.priors
    assert number == 1
    assert place.followed is not None
    assert np.linalg.norm(np.subtract(place.followed.transform((x, y, z)), there)) < 2
    assert np.linalg.norm(np.subtract(place.followed.place.position_mm, there)) < 2
    assert np.linalg.norm(np.subtract(place.location.position_mm, there)) < 2
    # What the network is shown of the prior is cut out of it around the nodule.
    assert place.scan.slices_below > 0
    assert place.volume.index(place.slices.origin_mm) == pytest.approx((0, 0, 0), abs=1e-3)
    assert place.scan.values.shape[0] == len(place.slices.instances)
    result = read(handler, replace(study, priors=(prior,)))
    assert len(measured(result)["attention-weight"]) == 2
    assert abs(measured(result)["volume-growth"][0].value) <= 10


def moved(study: Study, point: Position, folder: Path) -> tuple[Study, Position]:
    """Return the study 12 mm higher and turned by 4 degrees about an oblique axis, on an earlier day; and the point."""
    found = stack(study.instances)
    assert isinstance(found, Stack)
    scan = volume(found)
    x, y, z = 0.6, 0.0, 0.8
    cross, angle = np.array(((0, -z, y), (z, 0, -x), (-y, x, 0))), np.radians(4)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    middle = np.asarray(scan.position([(n - 1) / 2 for n in scan.values.shape]))
    shift = middle - turn @ middle + np.array((0.0, 0.0, 12.0))
    to_mm = (np.asarray(scan.axes) * np.asarray(scan.spacing_mm)[:, None]).T
    to_index, origin = np.linalg.inv(to_mm), np.asarray(scan.origin_mm)
    matrix, offset = to_index @ turn.T @ to_mm, to_index @ (turn.T @ (origin - shift) - origin)
    values = affine_transform(scan.values, matrix, offset, order=1, cval=-1000)
    images = []
    for number, pixels in enumerate(np.clip(np.rint(values) + 1024, 0, 4095).astype("<u2")):
        own: dict[str, Value] = {
            "StudyDate": "19900101",
            "FrameOfReferenceUID": "2.25.5",
            "ImagePositionPatient": scan.position((number, 0, 0)),
            "PixelSpacing": scan.spacing_mm[1:],
        }
        images.append(SyntheticImage(found.rows, found.columns, pixels.tobytes(), HEADER | own))
    there = turn @ np.asarray(point) + shift
    prior = of_files(testing.write(images, folder / "moved", study="moved"))
    return prior, (float(there[0]), float(there[1]), float(there[2]))
