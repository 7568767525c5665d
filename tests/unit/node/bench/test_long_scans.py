"""A long scan shows the patient of a short scan in finer voxels; reading it stays below the limit of memory."""

import re
from pathlib import Path

import numpy as np
import pytest
from support import installed

from ainode.node import testing
from ainode.node.bench.long_scans import LIMIT_MB, long_scan, peak_lines
from ainode.node.domain import SyntheticImage
from ainode.node.encoding import headers
from ainode.node.imaging.geometry import Stack, stack, volume
from ainode.node.reading.weights import ModelEnvironment, WeightStore


def a_stack(images: tuple[SyntheticImage, ...], folder: Path) -> Stack:
    paths = testing.write(images, folder, study="scan")
    slices = stack(headers.study(headers.instance(path, sha256="") for path in paths).instances)
    assert isinstance(slices, Stack)
    return slices


def test_a_long_scan_has_the_places_and_values_of_the_short_scan(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1000, 1000, (6, 8, 12)).astype(np.float32)
    short = testing.ct(values, (5.0, 2.0, 3.0), frame="patient", header={})
    before, after = a_stack(short, tmp_path / "short"), a_stack(tuple(long_scan(short, 26, 24)), tmp_path / "long")
    assert (len(after.instances), after.rows, after.columns) == (26, 24, 24)
    assert after.spacing_mm == pytest.approx((1.0, 2 / 3, 1.5), abs=1e-3)
    assert after.position(25, 0, 0) == pytest.approx(before.position(5, 0, 0), abs=1e-3)
    assert set(np.unique(volume(after).values)) == set(np.unique(volume(before).values))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_ct_of_600_slices_is_read_below_the_limit(tmp_path: Path) -> None:
    installed("cv2", "openvino", "timm", "torch")
    _, *lines = peak_lines(("ct_pneumonia", "ct_tumor"), ModelEnvironment(WeightStore(tmp_path), tmp_path / "networks"))
    peaks = [int(match[1]) for line in lines if (match := re.search(r": ([0-9]+) MB, .*, read$", line))]
    assert len(peaks) == len(lines) == 2
    assert max(peaks) < LIMIT_MB


def test_no_scan_is_made_for_handlers_that_read_no_whole_chest(tmp_path: Path) -> None:
    assert not list(peak_lines(("skin_lesion",), ModelEnvironment(WeightStore(tmp_path), tmp_path / "networks")))
