"""Two answers are the same only where findings, numbers, places and refusals are."""

from dataclasses import replace

import numpy as np
import pytest

from ainode.node.domain import (
    UID,
    Algorithm,
    Code,
    Finding,
    InstanceRef,
    LabelMap,
    Measurement,
    Outline,
    OutOfScope,
    Region,
    Result,
    Segmented,
    Verdict,
    WeightsStatus,
)
from ainode.node.proving.edits import TURNS
from ainode.node.proving.sameness import EXACT, Tolerance, differences

IMAGE = InstanceRef(UID("1.2.3"), UID("1.2.3.1"), UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.2.3.1.1"))
OTHER_IMAGE = replace(IMAGE, sop_instance_uid=UID("1.2.3.1.2"))
CODE = Code("52988006", "SCT", "Lesion")
SQUARE = ((0.0, 0.0, 0.0), (9.0, 0.0, 0.0), (9.0, 9.0, 0.0), (0.0, 0.0, 0.0))
HIGHER = (*SQUARE[:2], (9.0, 9.0, 2.0), SQUARE[0])
ROWS, COLUMNS = 40, 30


def labels(columns: slice, image: InstanceRef = IMAGE) -> Segmented:
    grid = np.zeros((ROWS, COLUMNS), np.uint8)
    grid[5:9, columns] = 1
    return Segmented("LESIONS", (), (LabelMap(image, ROWS, COLUMNS, grid.tobytes()),))


FINDING = Finding(
    "lesion 1",
    CODE,
    Code("39607008", "SCT", "Lung"),
    (Measurement(Code("122157", "DCM", "Probability"), 70.0, Code("%", "UCUM", "%"), (IMAGE,)),),
    (IMAGE,),
    region=Region.box(IMAGE, left=3, top=5, right=8, bottom=9),
    verdict=Verdict.of(0.7, 0.5),
    outline=Outline(UID("1.2.4"), UID("1.2.3.1"), (SQUARE, SQUARE)),
)
RESULT = Result(
    UID("1.2.3"),
    Algorithm("model", "1", "", WeightsStatus.SITE),
    "Lesions",
    CODE,
    (FINDING,),
    (),
    (IMAGE,),
    (IMAGE,),
    {"probability": 0.7},
    segmented=labels(slice(3, 8)),
)


def with_finding(**changes: object) -> Result:
    return replace(RESULT, findings=(replace(FINDING, **changes),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(RESULT, scores={"probability": 0.70001}), "score probability was 0.7, and is 0.70001"),
        (replace(RESULT, scores={}), "score probability was 0.7, and is absent"),
        (replace(RESULT, findings=()), "the answer had 1 findings, and has 0"),
        (with_finding(tracking_identifier="lesion 2"), "lesion 1: name was lesion 1, and is lesion 2"),
        (with_finding(site=CODE), "lesion 1: site was 39607008, and is 52988006"),
        (with_finding(verdict=Verdict.of(0.7, 0.8)), "lesion 1: presence was present, and is absent"),
        (with_finding(evidence=(OTHER_IMAGE,)), "lesion 1: images was"),
        (with_finding(measurements=()), "Probability (%, number 1) was 0.7, and is absent"),
        (with_finding(region=None), "lesion 1: one answer has a place, the other has none"),
        (with_finding(region=Region.box(OTHER_IMAGE, left=3, top=5, right=8, bottom=9)), "on another image"),
        (with_finding(region=Region.box(IMAGE, left=3, top=5, right=8, bottom=9, frame=2)), "on another frame"),
        (with_finding(region=Region.box(IMAGE, left=4, top=5, right=8, bottom=9)), "its place is 1 pixels elsewhere"),
        (
            with_finding(
                outline=Outline(UID("1.2.4"), UID("1.2.3.1"), (SQUARE, (*SQUARE[:2], (9.0, 9.0, 2.0), SQUARE[0])))
            ),
            "its outline reaches 2 mm elsewhere",
        ),
        (replace(RESULT, segmented=labels(slice(4, 8))), "segment 1 overlaps by a Dice of 0.8889 alone"),
        (replace(RESULT, segmented=None), "segment 1 overlaps by a Dice of 0.0000 alone"),
        (OutOfScope("it is a foot", "wrong-body-part"), "the study was read, and is refused (wrong-body-part)"),
    ],
)
def test_each_kind_of_difference_is_seen_and_named(other: Result | OutOfScope, words: str) -> None:
    assert differences(RESULT, RESULT) == ()
    assert any(words in line for line in differences(RESULT, other))


def test_two_refusals_are_the_same_by_their_code_alone() -> None:
    first = OutOfScope("3 images", "wrong-body-part")
    assert differences(first, OutOfScope("4 images", "wrong-body-part")) == ()
    assert differences(first, OutOfScope("3 images", "no-ct")) != ()


@pytest.mark.parametrize("name", TURNS)
def test_places_on_a_turned_image_are_turned_back(name: str) -> None:
    """The box and the label map of a turned image lie where they lay; without the way back, they do not."""
    turns = {
        "rows reversed": (lambda column, row: (column, ROWS - row), lambda grid: grid[::-1]),
        "columns reversed": (lambda column, row: (COLUMNS - column, row), lambda grid: grid[:, ::-1]),
        "rows as columns": (lambda column, row: (row, column), lambda grid: grid.T),
    }
    place, turned_grid = turns[name]
    grid = turned_grid(np.frombuffer(RESULT.segmented.maps[0].labels, np.uint8).reshape(ROWS, COLUMNS))  # type: ignore[union-attr]
    region = replace(FINDING.region, points=tuple(place(*point) for point in FINDING.region.points))  # type: ignore[type-var, union-attr]
    segmented = Segmented("LESIONS", (), (LabelMap(IMAGE, *grid.shape, np.ascontiguousarray(grid).tobytes()),))
    turned = replace(with_finding(region=region), segmented=segmented)
    assert differences(RESULT, turned, EXACT, TURNS[name].back(ROWS, COLUMNS)) == ()
    assert len(differences(RESULT, turned)) == 2


def test_a_tolerance_allows_a_part_of_a_number_and_no_more() -> None:
    tolerance = Tolerance(absolute=1e-4, relative=1e-2)
    assert tolerance.allows(0.5, 0.504)
    assert not tolerance.allows(0.5, 0.506)
    assert tolerance.allows(0.0, 0.0001)
    assert not tolerance.allows(0.0, 0.0002)
