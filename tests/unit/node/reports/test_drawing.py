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
    WeightsStatus,
)
from ainode.node.reports import drawing
from ainode.node.reports.drawing import Box, drawn_capture, heat_colors, label_box, wrapped_lines

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
    assert result.scale == 1
    assert np.array_equal(result.pixels[:600, :700], image)


@pytest.mark.parametrize(("rows", "columns"), [(3000, 3000), (4096, 100), (2049, 30)])
def test_a_large_image_is_drawn_on_at_most_2048_pixels(rows: int, columns: int) -> None:
    result = drawn_capture(_capture(), _gray(rows, columns), algorithm=ALGORITHM)
    assert result.scale == drawing.MAX_SIDE / rows
    assert result.pixels.shape[1] == round(columns * result.scale)


def test_a_small_image_is_enlarged_by_a_whole_number_so_that_captions_can_be_read() -> None:
    assert drawn_capture(_capture(), _gray(128, 100), algorithm=ALGORITHM).scale == 4


def test_a_box_is_drawn_at_its_pixels() -> None:
    region = Region.box(IMAGE, left=100, top=200, right=300, bottom=400)
    pixels = drawn_capture(_capture(_finding(region)), _gray(600, 600), algorithm=ALGORITHM).pixels.astype(int)
    bright = (pixels[..., 2] > 200) & (pixels[..., 0] < 120)
    for row, column in ((200, 150), (400, 250), (300, 100), (300, 300)):
        assert bright[row - 1 : row + 2, column - 1 : column + 2].any()
    assert not bright[210:390, 110:290].any()


def test_a_point_is_drawn_as_a_cross() -> None:
    region = Region(IMAGE, ((300.0, 200.0),), GraphicType.POINT)
    pixels = drawn_capture(_capture(_finding(region)), _gray(600, 600), algorithm=ALGORITHM).pixels
    assert (pixels[200, 300] != 128).any()


def test_heat_leaves_the_anatomy_visible_and_the_rest_untouched() -> None:
    checkers = _gray(600, 600, 60)
    checkers[::2] = 200
    saliency = Saliency(1, 2, bytes([0, 255]))
    pixels = drawn_capture(_capture(saliency=saliency), checkers, algorithm=ALGORITHM).pixels[:600, :600].astype(int)
    assert np.array_equal(pixels[:, :60], checkers[:, :60])
    contrast = np.abs(np.diff(pixels[:, 590, :], axis=0)).mean()
    assert contrast > 0.5 * (200 - 60)


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
