"""How networks are run, whatever the model."""

import pytest
from support import installed

installed("openvino", "torch")

from ainode.models.errors import PrecisionRefused  # noqa: E402
from ainode.models.running.runtime import AGREEMENT, refuse_drift  # noqa: E402


def test_a_precision_that_agrees_is_served() -> None:
    refuse_drift("spine", "bf16", (0.0, AGREEMENT))


@pytest.mark.parametrize("gap", [0.006, float("nan")])
def test_a_precision_that_moves_any_probability_too_far_is_refused(gap: float) -> None:
    with pytest.raises(PrecisionRefused, match="spine: bf16 moves a probability by"):
        refuse_drift("spine", "bf16", (0.0, gap, 0.001))
