"""How alike two arrays are at every shift of one over the other, where both are seen."""

from __future__ import annotations

import numpy as np
from scipy import fft

from ainode.models.following.grid import Vectors

_LEAST_SPREAD = 1e-6
"""variance below which there is nothing to compare, values being of the order of 1"""


def correlations(template: Vectors, weights: Vectors, field: Vectors, seen: Vectors) -> tuple[Vectors, Vectors]:
    """Return the weighted correlation at each shift, and the weight of what is seen there.

    Shapes: template and weights (P, P, P), field and seen (F, F, F), each side its own length; returned
    (P + F - 1, ...), index P - 1 being no shift, one more a template that lies one voxel further in the field.
    Source: Padfield, Masked object registration in the Fourier domain, IEEE Trans Image Process 2012.
    """
    shape = tuple(a + b - 1 for a, b in zip(template.shape, field.shape, strict=True))
    padded = tuple(fft.next_fast_len(n, real=True) for n in shape)
    kernels = [fft.rfftn(np.flip(weights * template**power), padded) for power in (0, 1, 2)]
    spectra = [fft.rfftn(seen * field**power, padded) for power in (0, 1, 2)]

    def at_each(template_power: int, field_power: int) -> Vectors:
        product = fft.irfftn(kernels[template_power] * spectra[field_power], padded)
        return np.asarray(product[tuple(slice(n) for n in shape)])

    weight = at_each(0, 0)
    total = np.maximum(weight, _LEAST_SPREAD)
    mean, field_mean = at_each(1, 0) / total, at_each(0, 1) / total
    spread = np.maximum(at_each(2, 0) / total - mean**2, _LEAST_SPREAD)
    field_spread = np.maximum(at_each(0, 2) / total - field_mean**2, _LEAST_SPREAD)
    return (at_each(1, 1) / total - mean * field_mean) / np.sqrt(spread * field_spread), weight
