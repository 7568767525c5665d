"""A real OHIF in a real browser shows where the model looked: a label map over the slice that it was made of."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conformance.made import CONTEXT
from conformance.test_segmentations import LABELMAP, SIDE, looked, slices
from pydicom import dcmread
from support import installed, orthanc
from support.viewer import built, viewer

installed("playwright")

from support.browser import page  # noqa: E402
from support.screen import Screen, is_colored  # noqa: E402

from ainode.node import reports  # noqa: E402

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
LEFT, TOP, RIGHT, BOTTOM = 12, 24, 36, 40


def test_a_label_map_is_drawn_at_its_pixels_on_its_slice(tmp_path: Path) -> None:
    built()
    if not DICOMWEB.exists():
        pytest.skip(f"{DICOMWEB} is not installed")
    paths = slices(tmp_path / "study", 5)
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[TOP:BOTTOM, LEFT:RIGHT] = 200
    documents = reports.documents(*looked({paths[3]: values}), replace(CONTEXT, optional=(LABELMAP,)))
    content = next(one.content for one in documents if one.kind is LABELMAP)
    image, series = dcmread(paths[3]), int(dcmread(BytesIO(content)).SeriesNumber)
    with orthanc(tmp_path / "archive", Plugins=[str(DICOMWEB)]) as archive:
        for one in (*(path.read_bytes() for path in paths), content):
            archive.call("POST", "/instances", one)
        with viewer(archive.http_port) as address, page() as tab:
            screen = Screen(tab, tmp_path)
            screen.open(address, image)
            screen.show(series, lambda: screen.says("Do you want to open this Segmentation?") == 1)
            screen.until(lambda: screen.slice()[0] == image.InstanceNumber)
            left, top, right, bottom = (round(side) for side in screen.placed((LEFT, TOP, RIGHT, BOTTOM), image))
            screen.until(lambda: is_colored(screen.seen("label-map"))[top:bottom, left:right].mean() > 0.9)
            colored = is_colored(screen.seen("label-map"))
    assert str(image.SeriesInstanceUID) == dcmread(BytesIO(content)).ReferencedSeriesSequence[0].SeriesInstanceUID
    colored[top - 4 : bottom + 4, left - 4 : right + 4] = False
    assert colored[top - 40 : bottom + 40, left - 40 : right + 40].mean() < 0.01
