from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageFont

from ainode.node.domain import (
    UID,
    Algorithm,
    Capture,
    Code,
    Finding,
    GraphicType,
    InstanceRef,
    Region,
    Saliency,
    Verdict,
    WeightsStatus,
)
from ainode.node.reports import drawing
from ainode.node.reports.drawing import Setting, drawn_capture
from ainode.node.reports.heat import heat_colors
from ainode.node.reports.labels import FINDING_COLOR, Box, label_box, wrapped_lines

IMAGE = InstanceRef(UID("1.2"), UID("1.2.3"), UID("1.2.840.10008.5.1.4.1.1.1"), UID("1.2.3.4"))
ALGORITHM = Algorithm("spine_radiograph", "1.0.0", "5" * 64, WeightsStatus.DEMONSTRATION)
CODE = Code("52988006", "SCT", "Lesion")


def _gray(rows: int, columns: int, value: int = 128) -> drawing.Picture:
    return np.full((rows, columns, 3), value, dtype=np.uint8)


def _capture(*findings: Finding, saliency: Saliency | None = None, caption: str = "Abnormal 81 %") -> Capture:
    return Capture(IMAGE, "Spine radiograph", (caption,), saliency, findings)


def _finding(region: Region, label: str = "Lesion 81 %") -> Finding:
    return Finding("box", CODE, CODE, (), (IMAGE,), region, label)


def test_the_image_stays_where_it_was_and_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    result = drawn_capture(_capture(), image, algorithm=ALGORITHM)
    assert result.factors == (1, 1)
    assert np.array_equal(result.pixels[:600, :700], image)
    assert np.array_equal(result.pixels[:600, 708:1408], image)


@pytest.mark.parametrize(("rows", "columns"), [(3000, 3000), (4096, 100), (2049, 30)])
def test_a_large_image_is_drawn_on_at_most_2048_pixels(rows: int, columns: int) -> None:
    result = drawn_capture(_capture(), _gray(rows, columns), algorithm=ALGORITHM)
    assert result.factors[1] == pytest.approx(drawing.MAX_SIDE / rows, abs=1 / columns)
    assert result.pixels.shape[1] == 2 * round(columns * drawing.MAX_SIDE / rows) + 8


def test_a_small_image_is_enlarged_by_a_whole_number_so_that_captions_can_be_read() -> None:
    assert drawn_capture(_capture(), _gray(128, 100), algorithm=ALGORITHM).factors == (4, 4)


def test_a_box_is_drawn_at_its_pixels() -> None:
    region = Region.box(IMAGE, left=100, top=200, right=300, bottom=400)
    pixels = _right(drawn_capture(_capture(_finding(region)), _gray(600, 600), algorithm=ALGORITHM).pixels).astype(int)
    bright = (pixels[..., 2] > 200) & (pixels[..., 0] < 120)
    for row, column in ((200, 150), (400, 250), (300, 100), (300, 300)):
        assert bright[row - 1 : row + 2, column - 1 : column + 2].any()
    assert not bright[210:390, 110:290].any()


def test_a_point_is_drawn_as_a_cross() -> None:
    region = Region(IMAGE, ((300.0, 200.0),), GraphicType.POINT)
    pixels = _right(drawn_capture(_capture(_finding(region)), _gray(600, 600), algorithm=ALGORITHM).pixels)
    assert (pixels[200, 300] != 128).any()


def test_what_was_measured_is_outlined_where_it_lies_and_shines_through() -> None:
    outlined = np.zeros((600, 600), np.bool_)
    outlined[100:201, 300:401] = True
    pixels = _right(drawn_capture(_capture(), _gray(600, 600), algorithm=ALGORITHM, outlined=outlined).pixels)
    marked = np.argwhere((pixels != 128).any(axis=2))
    assert marked.min(axis=0).tolist() == [100, 300]
    assert marked.max(axis=0).tolist() == [200, 400]
    assert (pixels[101:200, 301:400] == 128).all()


def test_the_outline_of_a_small_finding_is_drawn_in_its_magnified_part() -> None:
    finding = _finding(Region.box(IMAGE, left=100, top=200, right=120, bottom=220), "")
    outlined = np.zeros((600, 600), np.bool_)
    outlined[205:216, 105:116] = True
    capture = replace(_capture(finding), inset=finding)
    pixels = _right(drawn_capture(capture, _gray(600, 600), algorithm=ALGORITHM, outlined=outlined).pixels)
    part = pixels[361:599, 361:599]  # 240 pixels for 60: four times, in the corner that is farthest away
    rows, columns = np.nonzero((part == FINDING_COLOR).all(axis=2))
    assert np.ptp(rows) == np.ptp(columns) == pytest.approx(4 * 11, abs=3)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(119, abs=3)


def _right(pixels: drawing.Picture, side: int = 600) -> drawing.Picture:
    """Return the panel with the marks."""
    return pixels[:side, side + 8 : 2 * side + 8]


HALF = Saliency(1, 2, bytes([0, 255]))


def test_contours_leave_the_picture_on_both_sides_of_the_line_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    marked = _right(drawn_capture(_capture(saliency=HALF), image, algorithm=ALGORITHM).pixels)
    changed = (marked != image).any(axis=2)
    assert 0 < changed.mean() < 0.05
    columns = np.flatnonzero(changed.any(axis=0))
    assert not changed[:, : columns.min()].any()
    assert (np.diff(columns) > 20).sum() >= 1  # two lines with the picture between them


def _about(probability: float, about: Code | None = None) -> Finding:
    verdict = Verdict.of(probability, 0.5, about=about)
    region = Region.box(IMAGE, left=100, top=200, right=300, bottom=400)
    return replace(_finding(region), verdict=verdict)


def test_a_negative_picture_has_no_boxes_and_gray_lines() -> None:
    finding = _about(0.1)
    capture = replace(_capture(finding, saliency=HALF), subject=finding)
    marked = _right(drawn_capture(capture, _gray(600, 600), algorithm=ALGORITHM).pixels).astype(int)
    spread = marked.max(axis=2) - marked.min(axis=2)
    assert spread.max() < 30
    assert (marked != 128).any()


def test_a_nodule_that_is_not_malignant_keeps_its_box() -> None:
    finding = _about(0.1, about=CODE)
    capture = replace(_capture(finding), subject=finding)
    marked = _right(drawn_capture(capture, _gray(600, 600), algorithm=ALGORITHM).pixels).astype(int)
    assert ((marked[..., 2] > 200) & (marked[..., 0] < 120)).any()


@pytest.mark.parametrize(("probability", "channel"), [(0.9, 0), (0.1, 1)])
def test_the_verdict_stands_large_below_the_pictures_in_a_color_of_its_own(probability: float, channel: int) -> None:
    finding = _about(probability)
    capture = replace(_capture(finding), subject=finding)
    words = drawn_capture(capture, _gray(600, 600), algorithm=ALGORITHM).pixels[600:650].astype(int)
    colored = words[(words.max(axis=2) > 200) & (words.max(axis=2) - words.min(axis=2) > 60)]
    assert len(colored) > 200
    assert (colored.argmax(axis=1) == channel).mean() > 0.95


def test_what_else_is_present_on_the_image_stands_below_in_the_color_of_a_finding_and_what_is_absent_is_gray() -> None:
    finding = _about(0.1)
    reds = []
    for others in ((), (_about(0.1),), (_about(0.9),)):
        capture = replace(_capture(finding), subject=finding, beside=others)
        words = drawn_capture(capture, _gray(600, 600), algorithm=ALGORITHM).pixels[600:].astype(int)
        reds.append(int(((words[..., 0] > 200) & (words[..., 1] < 150)).sum()))
    assert reds[0] == reds[1]
    assert reds[2] > reds[0] + 100


def test_a_circle_of_the_patient_is_a_circle_of_the_picture() -> None:
    rows, columns = np.mgrid[:300, :600]
    image = np.repeat((np.hypot((rows - 150) * 2, columns - 300) < 100)[..., np.newaxis] * np.uint8(255), 3, axis=2)
    result = drawn_capture(_capture(), image, algorithm=ALGORITHM, setting=Setting(height_per_width=2.0))
    panel = result.pixels[:600, :600, 0] > 128
    assert result.factors == (1, 2)
    assert np.flatnonzero(panel.any(axis=0)).size == pytest.approx(np.flatnonzero(panel.any(axis=1)).size, abs=3)


def test_the_sides_of_the_patient_and_the_place_of_the_slice_are_written_on_both_pictures() -> None:
    setting = Setting(letters=("R", "L", "A", "P"), captions=("Series 3 12/84", "2026-01-02"))
    plain, lettered = (
        drawn_capture(_capture(), _gray(600, 600), algorithm=ALGORITHM, setting=each).pixels for each in (None, setting)
    )
    for panel, blank in ((lettered[:600, :600], plain[:600, :600]), (_right(lettered), _right(plain))):
        changed = (panel != blank).any(axis=2)
        for part in (changed[250:350, :30], changed[250:350, 570:], changed[:30, 250:350], changed[570:, 250:350]):
            assert part.any()
        assert changed[540:, :150].sum() > 300


def test_a_small_finding_is_shown_magnified_in_the_corner_away_from_it() -> None:
    image = np.zeros((600, 600, 3), np.uint8)
    image[95:106, 95:106] = 255
    region = Region.box(IMAGE, left=90, top=90, right=110, bottom=110)
    finding = _finding(region)
    capture = replace(_capture(finding), inset=finding)
    marked = _right(drawn_capture(capture, image, algorithm=ALGORITHM).pixels)
    assert (marked[360:, 360:, 0] > 200).sum() > 4 * 11 * 11
    assert (marked[95:106, 95:106] == 255).all()


def test_a_magnified_part_covers_no_caption() -> None:
    finding = _finding(Region.box(IMAGE, left=490, top=90, right=510, bottom=110))
    capture = replace(_capture(finding), inset=finding)
    setting = Setting(captions=("Series 1 19/36", "2026-01-01"))
    panels = (
        _right(drawn_capture(each, _gray(600, 600), algorithm=ALGORITHM, setting=setting).pixels)
        for each in (capture, _capture())
    )
    marked, plain = (panel[540:, :150] for panel in panels)
    assert np.array_equal(marked, plain)
    assert (marked != 128).any()


def test_heat_grows_evenly_in_lightness_so_that_it_is_read_without_color_vision() -> None:
    colors = heat_colors(np.linspace(0, 1, 64)).astype(float)
    luminance = colors @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > 0).all()


def test_a_label_stands_above_its_box() -> None:
    assert label_box((100, 100, 200, 150), (80, 20), canvas=(600, 600), occupied=()) == (100, 80, 180, 100)


def test_a_label_leaves_the_next_box_free() -> None:
    above, below = (100.0, 60.0, 200.0, 95.0), (100.0, 100.0, 200.0, 150.0)
    place = label_box(below, (80, 20), canvas=(600, 600), occupied=(above, below))
    assert all(_apart(place, box) for box in (above, below))


@pytest.mark.parametrize("box", [(0, 0, 50, 30), (570, 570, 600, 600), (0, 570, 40, 600), (0, 0, 600, 600)])
def test_a_label_stays_on_the_canvas(box: Box) -> None:
    left, top, right, bottom = label_box(box, (120, 24), canvas=(600, 600), occupied=(box,))
    assert 0 <= left < right <= 600
    assert 0 <= top < bottom <= 600


def test_labels_of_crowded_boxes_do_not_overlap() -> None:
    boxes = [(100.0 + 30 * n, 100.0 + 40 * n, 220.0 + 30 * n, 135.0 + 40 * n) for n in range(5)]
    occupied: list[Box] = list(boxes)
    for box in boxes:
        place = label_box(box, (100, 24), canvas=(600, 600), occupied=occupied)
        assert all(_apart(place, other) for other in occupied[5:])
        occupied.append(place)


def _apart(one: Box, other: Box) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_the_warning_is_in_every_capture() -> None:
    pixels = drawn_capture(_capture(), _gray(600, 600), algorithm=ALGORITHM).pixels[600:].astype(int)
    amber = (pixels[..., 0] > 200) & (pixels[..., 2] < 120)
    assert amber.sum() > 500


def test_long_captions_are_broken_and_none_is_lost() -> None:
    font = ImageFont.load_default(size=15)
    assert isinstance(font, ImageFont.FreeTypeFont)
    text = "densenet121 0.82, tf_efficientnetv2_s 0.79, resnet50 0.84 " * 4
    lines = wrapped_lines(text, 200, font=font)
    assert " ".join(lines).split() == text.split()
    assert max(font.getlength(line) for line in lines) <= 200


def test_text_that_is_no_ascii_is_drawn_as_question_marks() -> None:
    odd, plain = (
        drawn_capture(_capture(caption=text), _gray(600, 600), algorithm=ALGORITHM).pixels
        for text in ("Wirbels\u00e4ule", "Wirbels?ule")
    )
    assert np.array_equal(odd, plain)


def test_the_same_capture_is_drawn_the_same() -> None:
    capture = _capture(saliency=Saliency(2, 2, bytes([0, 90, 180, 255])))
    one, other = (drawn_capture(capture, _gray(600, 600), algorithm=ALGORITHM).pixels for _ in range(2))
    assert np.array_equal(one, other)
