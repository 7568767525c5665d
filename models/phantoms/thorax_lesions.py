"""Disease in a synthetic chest: consolidations, ground glass and nodules of known size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ainode.models.phantoms.thorax_anatomy import Build, depth_at
from ainode.models.phantoms.thorax_field import Canvas, Point, Values

_SPICULES = 14
_GROUND_GLASS_SHARE = 0.55
_TRIES = 400


@dataclass(frozen=True, slots=True)
class Nodule:
    """One nodule of a synthetic chest.

    Units: `position` (z, y, x), each -1 to 1: base to apex, front to back, right to left of the chest cavity;
    diameter of the solid ball, without spicules.
    """

    position: Point
    diameter_mm: float
    spiculated: bool = False
    density_hu: float = 30.0

    def __post_init__(self) -> None:
        """Refuse a diameter that is not positive, and a position outside of the chest cavity."""
        if self.diameter_mm <= 0 or max(abs(at) for at in self.position) > 1:
            message = f"a nodule needs a positive diameter and a place within -1 to 1, got {self}"
            raise ValueError(message)

    def center_mm(self, build: Build) -> Point:
        """Return the nodule's center in a patient."""
        z, y, x = self.position
        height = build.apex if z > 0 else build.base
        return (z * height, y * build.cavity[0], x * build.cavity[1])


def nodule_position(random: np.random.Generator, anatomy_seed: int, diameter_mm: float) -> Point:
    """Return a random position in a patient's lung where a nodule of the diameter is clear of the wall."""
    build = Build.of_patient(anatomy_seed)
    for _ in range(_TRIES):
        nodule = Nodule(_triple(random.uniform(-0.95, 0.95, 3)), diameter_mm)
        if depth_at(build, nodule.center_mm(build)) > diameter_mm / 2 + 3:
            return nodule.position
    message = f"patient {anatomy_seed} has no room for a nodule of {diameter_mm} mm"
    raise ValueError(message)


def paint_nodule(canvas: Canvas, build: Build, nodule: Nodule, number: int) -> None:
    """Paint one nodule; its spicules grow from the same places at every date."""
    center, radius = nodule.center_mm(build), nodule.diameter_mm / 2
    random = np.random.default_rng((build.seed, 5, number))
    if nodule.spiculated:
        for direction in random.standard_normal((_SPICULES, 3)):
            unit = direction / np.linalg.norm(direction)
            tip = center + unit * radius * random.uniform(1.5, 2.3)
            canvas.paint_tube(center + unit * radius * 0.7, tip, (0.09 * radius + 0.5, 0.3), nodule.density_hu)
    window = canvas.window((center,), radius + canvas.edge_mm)
    if window is None:
        return
    z, y, x = canvas.offsets(center, window)
    distance = np.sqrt(z**2 + y**2 + x**2)
    unevenness = (
        0.06 * radius * canvas.smooth_noise(random, 1.6 * radius + 3, window) if nodule.spiculated else np.float32(0)
    )
    canvas.paint(canvas.share_below_surface(radius + unevenness - distance), nodule.density_hu, window)


def paint_consolidations(canvas: Canvas, build: Build, share: Values, count: int) -> Values:
    """Paint `count` consolidations or patches of ground glass; return the share of each voxel that they fill."""
    random = np.random.default_rng((build.seed, 4))
    filled = np.zeros_like(canvas.values)
    for _ in range(count):
        center, radii = _peripheral_point(build, random), random.uniform(14, 38, 3)
        ground_glass = random.random() < _GROUND_GLASS_SHARE
        density = random.uniform(-620, -420) if ground_glass else random.uniform(-180, 40)
        window = canvas.window((center,), 1.5 * float(radii.max()))
        texture = random.spawn(1)[0]
        if window is None:
            continue
        z, y, x = canvas.offsets(center, window)
        rho = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2).astype(np.float32)
        share_of_patch = np.clip((1 - rho + 0.22 * canvas.smooth_noise(texture, 22, window)) / np.float32(0.45), 0, 1)
        patch_hu = np.float32(density) + (60 if ground_glass else 25) * canvas.smooth_noise(texture, 8, window)
        patch_in_lung = share_of_patch * share[window]
        # Vessels and walls that are denser than the patch stay as they are.
        target = canvas.values[window]
        np.maximum(target, target + patch_in_lung * (patch_hu - target), out=target)
        np.maximum(filled[window], patch_in_lung, out=filled[window])
    return filled


def _peripheral_point(build: Build, random: np.random.Generator) -> Point:
    """Return a random point near the pleura, more often low and in the back.

    Source: distribution of viral pneumonia on CT (Salehi et al., Am J Roentgenol 2020, doi 10.2214/AJR.20.23034).
    """
    best: tuple[float, Point] = (-np.inf, (0.0, 0.0, 0.0))
    for _ in range(60):
        z, y, x = random.uniform(-1, 1, 3)
        place = (z * (build.apex if z > 0 else build.base), y * build.cavity[0], x * build.cavity[1])
        depth = depth_at(build, place)
        if depth > 4:  # noqa: PLR2004  # mm: inside a lung
            score = -0.05 * depth - 0.6 * z + 0.5 * y + random.gumbel(0, 0.7)
            best = max(best, (score, place))
    return best[1]


def _triple(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))
