"""Following a nodule through the CTs of one patient: the transform between two scans, the nodule's place, its growth.

The limits of refusal were measured on phantoms and a real scan: moved, warped as by breathing, noisy, in thick slices.

    correlation of registered scans   one patient 0.96 to 1.00, breathing of 16 mm 0.85 to 0.98; another patient 0.64
    likeness of a nodule's place      breathing 0.81 to 0.95; a nodule that grew from 10 to 18 mm 0.58 to 0.63
                                      no nodule at the place 0.39 to 0.57: there the missing density refuses the place

The correlation shows that a match failed. It does not tell two patients apart: phantoms of two reach 0.72 to 0.95.
"""

from ainode.models.following.follow import FollowedNodule, nodule_through_transform
from ainode.models.following.grid import Grid, Omission, Position
from ainode.models.following.growth import Growth, growth, thickness_omission
from ainode.models.following.local import NodulePlace, nodule_place
from ainode.models.following.nodule import NoduleSize, nodule_size
from ainode.models.following.registration import RigidTransform, register

__all__ = [
    "FollowedNodule",
    "Grid",
    "Growth",
    "NodulePlace",
    "NoduleSize",
    "Omission",
    "Position",
    "RigidTransform",
    "growth",
    "nodule_place",
    "nodule_size",
    "nodule_through_transform",
    "register",
    "thickness_omission",
]
