"""Bins and quantiles, beside those of NumPy."""

import numpy as np
import pytest

from ainode.node.console.figures.distribution import bin_edges, quantile, shares

RANDOM = np.random.default_rng(0)
SAMPLES = ([0.5], [0.0, 1.0], [0.25] * 9, list(RANDOM.random(1001)), list(np.round(RANDOM.random(400), 1)))


@pytest.mark.parametrize("values", SAMPLES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95, 1.0])
def test_a_quantile_is_that_of_numpy(values: list[float], share: float) -> None:
    assert quantile(sorted(values), share) == pytest.approx(np.quantile(values, share), abs=1e-12)


@pytest.mark.parametrize("values", [*SAMPLES, [-0.1, 1.1, 0.5], []])
def test_the_shares_of_the_bins_are_those_of_a_histogram_of_numpy(values: list[float]) -> None:
    edges = bin_edges(0, 1, 20)
    assert edges == pytest.approx(np.linspace(0, 1, 21))
    assert shares(values, edges) == pytest.approx(np.histogram(values, edges)[0] / max(1, len(values)))
