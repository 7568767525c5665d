"""Which side of the patient the right of a radiograph is: the header decides, and nothing is guessed."""

from dataclasses import dataclass

from ainode.handlers import SIDES
from ainode.node.domain import Code, Instance

_RIGHT, _LEFT = SIDES["right"], SIDES["left"]


@dataclass(frozen=True, slots=True)
class Sides:
    """The patient's side at the right of the picture; None where Patient Orientation does not say it."""

    right_of_picture: Code | None

    def side(self, *, is_right_of_picture: bool) -> Code | None:
        """Return the patient's side that lies to the right or to the left of the picture."""
        if self.right_of_picture is None:
            return None
        other = _LEFT if self.right_of_picture is _RIGHT else _RIGHT
        return self.right_of_picture if is_right_of_picture else other

    def words(self, *, is_right_of_picture: bool) -> str:
        """Return the side in words."""
        side = self.side(is_right_of_picture=is_right_of_picture)
        if side:
            return f"the patient's {side.meaning.lower()}"
        return f"the {'right' if is_right_of_picture else 'left'} of the picture"

    def __str__(self) -> str:
        """Return how the side was told, for a report."""
        if self.right_of_picture is None:
            return "not known: Patient Orientation is absent or names no side; sides are those of the picture"
        return (
            f"by Patient Orientation: the right of the picture is the patient's {self.right_of_picture.meaning.lower()}"
        )


def sides_of(instance: Instance) -> Sides:
    """Return the sides of an image.

    View Position does not decide them: a PA film is shown as an AP film is, or as it was exposed, and only Patient
    Orientation says which (PS3.3 C.7.6.1.1.1).
    """
    along_row = instance.text("PatientOrientation").split("\\")[0].strip().upper()
    first = along_row[:1]
    return Sides({"L": _LEFT, "R": _RIGHT}.get(first))
