"""Following a nodule through the CTs of one patient: arrays in, arrays out, rigid transform, place, size, growth.

What the limits of refusal rest on: a real scan moved, warped as by breathing, with noise, in thicker slices; phantoms.

    correlation of registered scans   one patient 0.96 to 1.00, breathing of 16 mm 0.85 to 0.98; another patient 0.64
    likeness of a nodule's place      0.81 to 0.95 breathing; grown from 10 to 18 mm 0.58 to 0.63
                                      not there 0.39 to 0.57: its missing density tells then

The correlation tells a failed match, not one patient from another: phantoms of two patients reach 0.72 to 0.95.
"""

from ainode.models.following.follow import Followed, followed, found_again
from ainode.models.following.grid import Grid, LeftOut, Position
from ainode.models.following.growth import Growth, comparable, growth
from ainode.models.following.local import Refined, refined
from ainode.models.following.nodule import Measured, measured
from ainode.models.following.registration import RigidTransform, register

__all__ = [
    "Followed",
    "Grid",
    "Growth",
    "LeftOut",
    "Measured",
    "Position",
    "Refined",
    "RigidTransform",
    "comparable",
    "followed",
    "found_again",
    "growth",
    "measured",
    "refined",
    "register",
]
