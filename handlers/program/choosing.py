"""Which images of a study a program reads, where no stack is asked for: every one that fits, of any form."""

from collections.abc import Sequence
from typing import Final

from ainode.handlers import image_refusal
from ainode.handlers.described.choosing import not_read, other_kind
from ainode.handlers.described.description import Takes
from ainode.handlers.described.pictures import is_inverted
from ainode.node.domain import Instance, OutOfScope, refs
from ainode.node.imaging.hounsfield import header_reason
from ainode.node.imaging.pixels import frame

_LOOKED_AT: Final = 8


def refusal_of(instance: Instance, takes: Takes) -> OutOfScope | None:
    """Return why the header says that an object is not for the program; None if nothing speaks against it."""
    side = min(int(instance.text(key) or 0) for key in ("Rows", "Columns"))
    if problem := other_kind(instance, takes) or not_read(instance, takes):
        reason, code = problem
    elif side < takes.smallest_side:
        reason, code = f"the image has {side} pixels on a side; {takes.smallest_side} are needed", "too-small"
    elif instance.text("Modality") == "CT" and (words := header_reason((instance,))):
        reason, code = f"{words}; Hounsfield units are read", "not-hounsfield"
    else:
        return None
    return image_refusal(instance, reason, code)


def inverted_refusal(instances: Sequence[Instance]) -> OutOfScope | None:
    """Return the refusal of slices whose high values are dark, which a file of numbers does not say; None of others."""
    dark = [instance for instance in instances if is_inverted(instance)]
    if not dark:
        return None
    return OutOfScope(
        "high values are dark (MONOCHROME1), and image.nii does not say so; MONOCHROME2 is read, or DICOM files",
        "unusable-pixels",
        refs(dark),
    )


def uniform_refusal(instances: Sequence[Instance]) -> OutOfScope | None:
    """Return the refusal of images of which a few, evenly taken, have one value in each frame; None if not all have.

    Raises: BrokenSeries if an image cannot be decoded.
    """
    step = max(1, len(instances) // _LOOKED_AT)
    for instance in instances[::step][:_LOOKED_AT]:
        if not instance.text("Rows") or _shows_something(instance):
            return None
    return OutOfScope(
        "the pixels have one value; images that show something are read", "unusable-pixels", refs(instances)
    )


def _shows_something(instance: Instance) -> bool:
    """Return whether a frame of an image has several values, or colors; a first frame may be empty."""
    count = int(instance.text("NumberOfFrames") or 1)
    frames = (frame(instance.path, index).values for index in range(count))
    return any(bool((values != values[0, 0]).any()) for values in frames)
