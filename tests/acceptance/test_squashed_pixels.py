"""A picture whose pixels are no squares gets the answer of its twin of square pixels, with boxes at its own pixels."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import installed

installed("cv2", "keras", "openvino", "safetensors", "timm", "torch", "ultralytics")

from unit.handlers.test_skin_lesion_handler import shipped  # noqa: E402

from ainode.node import testing  # noqa: E402
from ainode.node.domain import Handler, Result, Selection, SyntheticImage  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.reading import registry  # noqa: E402
from ainode.node.reading.weights import ModelEnvironment  # noqa: E402

ASPECTS = {"high pixels": (2, 1), "wide pixels": (1, 2)}
"""height and width of a pixel"""


def squashed(image: SyntheticImage, aspect: tuple[int, int]) -> SyntheticImage:
    """Return the image with pixels of another shape, as its spacing says."""
    kind = "u1" if image.samples > 1 else "<u2"
    pixels = np.frombuffer(image.pixels, kind).reshape(image.rows, image.columns, -1)
    rows, columns = image.rows // aspect[0], image.columns // aspect[1]
    small = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    spacing = image.header.get("PixelSpacing")
    side = float(spacing[0]) if isinstance(spacing, tuple) else 1.0
    sizes = (side * aspect[0], side * aspect[1])
    header = {**image.header, "PixelSpacing": sizes, "ImagerPixelSpacing": sizes}
    return replace(image, rows=rows, columns=columns, pixels=small.astype(kind).tobytes(), header=header)


def read(handler: Handler, image: SyntheticImage, folder: Path) -> Result:
    paths = testing.write([image], folder, study=folder.name)
    selection = handler.select(headers.study(headers.instance(path, sha256="") for path in paths))
    assert isinstance(selection, Selection), selection
    result = handler.read(selection)
    assert isinstance(result, Result), result
    return result


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("aspect", ASPECTS.values(), ids=ASPECTS)
def test_a_squashed_radiograph_gets_the_boxes_of_its_twin(aspect: tuple[int, int], cache: Path, tmp_path: Path) -> None:
    handler = registry.handler("spine_radiograph", ModelEnvironment(shipped(), cache, device="cpu"))
    image = handler.demonstration(3).images[0]
    square = read(handler, image, tmp_path / "square")
    twin = read(handler, squashed(image, aspect), tmp_path / "twin")
    assert twin.scores["probability"] == pytest.approx(square.scores["probability"], abs=0.02)
    (box,), (twin_box,) = ([finding for finding in result.findings if finding.region] for result in (square, twin))
    assert box.region
    assert twin_box.region
    assert twin_box.tracking_identifier == box.tracking_identifier
    stretched = np.array(twin_box.region.points) * (aspect[1], aspect[0])
    assert np.abs(stretched - np.array(box.region.points)).max() < 0.02 * image.rows
    assert twin_box.measurements[0].value == pytest.approx(box.measurements[0].value, abs=10)


@pytest.mark.parametrize("aspect", ASPECTS.values(), ids=ASPECTS)
def test_a_squashed_photograph_gets_the_answer_of_its_twin(
    aspect: tuple[int, int], cache: Path, tmp_path: Path
) -> None:
    handler = registry.handler("skin_lesion", ModelEnvironment(shipped(), cache, device="cpu"))
    (image,) = handler.demonstration(3).images
    square = read(handler, image, tmp_path / "square")
    twin = read(handler, squashed(image, aspect), tmp_path / "twin")
    assert twin.scores["probability"] == pytest.approx(
        square.scores["probability"], abs=0.06
    )  # half of the rows or columns are gone
    assert twin.presence is square.presence
