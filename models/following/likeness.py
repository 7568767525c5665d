"""The likeness of two arrays at every shift of one over the other, where both have values."""

from __future__ import annotations

import numpy as np
from scipy import fft

from ainode.models.following.grid import Vectors

_LEAST_SPREAD = 1e-6
"""the smallest variance that is compared; values are of the order of 1"""


def correlations(
    template: Vectors, weights: Vectors, field: Vectors, field_weights: Vectors
) -> tuple[Vectors, Vectors]:
    """Return the weighted correlation of template and field at each shift, and the weight that both share there.

    Shapes: template and weights (P, P, P), field and field_weights (F, F, F), each side its own length; returned
    (P + F - 1, ...). Index P - 1 is no shift; each step up shifts the template one voxel further into the field.
    Source: Padfield, Masked object registration in the Fourier domain, IEEE Trans Image Process 2012.
    """
    shape = tuple(a + b - 1 for a, b in zip(template.shape, field.shape, strict=True))
    padded = tuple(fft.next_fast_len(n, real=True) for n in shape)
    kernels = [fft.rfftn(np.flip(weights * template**power), padded) for power in (0, 1, 2)]
    spectra = [fft.rfftn(field_weights * field**power, padded) for power in (0, 1, 2)]

    def sums_at_each_shift(template_power: int, field_power: int) -> Vectors:
        product = fft.irfftn(kernels[template_power] * spectra[field_power], padded)
        return np.asarray(product[tuple(slice(n) for n in shape)])

    weight = sums_at_each_shift(0, 0)
    total = np.maximum(weight, _LEAST_SPREAD)
    mean, field_mean = sums_at_each_shift(1, 0) / total, sums_at_each_shift(0, 1) / total
    spread = np.maximum(sums_at_each_shift(2, 0) / total - mean**2, _LEAST_SPREAD)
    field_spread = np.maximum(sums_at_each_shift(0, 2) / total - field_mean**2, _LEAST_SPREAD)
    return (sums_at_each_shift(1, 1) / total - mean * field_mean) / np.sqrt(spread * field_spread), weight
