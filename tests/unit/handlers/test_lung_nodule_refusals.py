"""What is no nodule of which the model learned is refused, whoever says how large it is."""

import numpy as np
import pytest
from support import installed

installed("torch", "openvino", "scipy")

from ainode.handlers.lung_nodule.sizes import refusal_of  # noqa: E402
from ainode.models.following import Grid, NoduleSize  # noqa: E402
from ainode.models.nodule_outline.model import OutlinedNodule  # noqa: E402
from ainode.node.domain import Extent, Location  # noqa: E402

AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
MIDDLE = (16.0, 16.0, 16.0)


def ball(density_hu: float) -> OutlinedNodule:
    """Return a nodule of 14 mm in lung."""
    z, y, x = np.indices((48, 48, 48)) - 23.5
    mask = np.sqrt(z**2 + y**2 + x**2) < 10
    values = np.where(mask, density_hu, -850).astype(np.float32)
    size = NoduleSize(MIDDLE, 14.0, 13.0, 14.0, 1437.0, density_hu, ())
    return OutlinedNodule(Grid(values, (0.0, 0.0, 0.0), (0.7, 0.7, 0.7), AXES), mask.astype(np.float32), mask, size)


@pytest.mark.parametrize("extent", [None, Extent(12.0, 10.0, 700.0)], ids=["pointed at", "drawn"])
def test_fat_is_refused_with_its_size_also_where_somebody_drew_it(extent: Extent | None) -> None:
    refusal = refusal_of(Location(MIDDLE, "SEG", extent=extent), ball(-90))
    assert refusal is not None
    assert refusal.code == "fat"
    assert refusal.reason == (
        "fat density, -90 HU throughout, 14 x 13 mm, volume 1437 mm3: the model has not learned from nodules of fat; "
        "no probability"
    )
    assert refusal_of(Location(MIDDLE, "SEG", extent=extent), ball(40)) is None
    assert refusal_of(Location(MIDDLE, "SEG", extent=extent), ball(-400)) is None
