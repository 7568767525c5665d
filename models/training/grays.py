"""Gray pictures as other scanners and exposures would show them: another curve, brightness, sharpness, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
_SHARPEST = 0.3


@dataclass(frozen=True, slots=True)
class GrayChanges:
    """The farthest that a change goes.

    Units: `gamma` the logarithm of the exponent; `gain`, `offset` and the deviation `noise` in ranges of the picture;
    the deviation `blur` in pixels.
    """

    gamma: float
    gain: float
    offset: float
    noise: float
    blur: float

    def applied(self, picture: Picture, random: np.random.Generator) -> Picture:
        """Return a changed picture; one of three is blurred, one is noisy. The same generator gives the same change.

        Shapes: (rows, columns), 0 to 1, in and out.
        """
        values = picture ** np.float32(np.exp(random.uniform(-self.gamma, self.gamma)))
        gain, offset = random.uniform(-self.gain, self.gain), random.uniform(-self.offset, self.offset)
        values = values * np.float32(1 + gain) + np.float32(offset)
        match random.integers(3):
            case 0:
                values = np.asarray(cv2.GaussianBlur(values, (0, 0), random.uniform(_SHARPEST, self.blur)), np.float32)
            case 1:
                values = values + random.normal(0, random.uniform(0, self.noise), values.shape).astype(np.float32)
        return np.asarray(np.clip(values, 0, 1), np.float32)
