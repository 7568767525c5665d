"""One image of a study as the input of a site's network."""

import numpy as np
from numpy.typing import NDArray

from ainode.handlers.described.description import Input
from ainode.models.described.placement import Placement, Values, placed, planes_of
from ainode.models.described.scaling import Scaling
from ainode.models.errors import UnusablePicture
from ainode.node.domain import Instance
from ainode.node.imaging.pixel_shape import height_per_width, pixel_width
from ainode.node.imaging.pixels import display_values, image_values, picture

# Their values are Hounsfield units or an activity, however a viewer is told to show them.
_WITH_UNITS = frozenset({"CT", "PT"})


def is_inverted(instance: Instance) -> bool:
    """Return whether high values of an image are dark (MONOCHROME1), and have no unit that says what they are."""
    is_dark = instance.text("PhotometricInterpretation") == "MONOCHROME1"
    return is_dark and instance.text("Modality") not in _WITH_UNITS


def prepared(instance: Instance, network_input: Input) -> tuple[Values, Placement]:
    """Return an image as the network takes it, and where the image lies in it.

    Raises: BrokenSeries if the image cannot be decoded; UnusablePicture if its pixels have one value, or if no header
    says how large they are where the network wants a spacing.
    """
    return in_input(
        _unit_values(instance, network_input.scaling),
        network_input,
        height_per_width(instance.header),
        _sizes(instance),
    )


def in_input(
    values: Values, network_input: Input, pixel_height: float, sizes_mm: tuple[float, float] | None
) -> tuple[Values, Placement]:
    """Return scaled values of a picture as the network takes them, and where the picture lies in them.

    Shapes: values (rows, columns) or (rows, columns, 3); out (1, channels, rows, columns), or the channels last.
    Units: `pixel_height` in widths of a pixel; the sizes of a pixel are its height and its width in mm.
    Raises: UnusablePicture.
    """
    factors = (1.0, 1.0)
    if network_input.spacing_mm:
        if sizes_mm is None:
            raise UnusablePicture("no header says how large a pixel is; images with Pixel Spacing are read")
        factors = sizes_mm[0] / network_input.spacing_mm[0], sizes_mm[1] / network_input.spacing_mm[1]
    fitted, placement = placed(
        values, network_input.size, network_input.fit, height_per_width=pixel_height, factors=factors
    )
    planes = network_input.scaling.normalized(planes_of(fitted, network_input.channels))
    return np.ascontiguousarray(
        (planes.transpose(1, 2, 0) if network_input.is_channels_last else planes)[None]
    ), placement


def seen_text(share: float, whole: str) -> str:
    """Return in words what share of an image or a volume was seen; '' where all of it was, words where none knows."""
    if np.isnan(share):
        return f"the {whole} is cut for the input, and nothing says what share of it was seen"
    return "" if share >= 1 else f"{int(100 * share)} % of the {whole} lie in the input; the rest was not seen"


def _varied(values: Values) -> Values:
    """Return values that are not all the same where they are numbers.

    Raises: UnusablePicture.
    """
    shown = values[~np.isnan(values).reshape(*values.shape[:2], -1).any(axis=-1)]
    if (shown == shown[:1]).all():  # of a picture in color, one color
        raise UnusablePicture("all its pixels have one value; an image is read")
    return values


def without_padding(values: Values, *, is_inverted: bool = False) -> tuple[Values, NDArray[np.bool_]]:
    """Return values with the darkest of them where they are no number, as padding is none; and where that is.

    Without any number all are 0.
    """
    is_padding = np.isnan(values)
    if not is_padding.any():
        return values, is_padding
    darkest = np.fmax.reduce(values, axis=None) if is_inverted else np.fmin.reduce(values, axis=None)
    return np.where(is_padding, np.nan_to_num(darkest), values), is_padding


def shown_values(values: Values, is_padding: NDArray[np.bool_]) -> Values:
    """Return the values that are no padding, of which statistics are made; all of them where all are padding."""
    return values if not is_padding.any() or is_padding.all() else values[~is_padding]


def _sizes(instance: Instance) -> tuple[float, float] | None:
    """Return height and width of a pixel in mm; None where the header does not say them."""
    width = pixel_width(instance.header)
    return None if width is None else (width.millimeters * height_per_width(instance.header), width.millimeters)


def _unit_values(instance: Instance, scaling: Scaling) -> Values:
    """Return the values of an image by the kind of scaling; white is high, also where the image says MONOCHROME1.

    Raises: UnusablePicture if all are one value, which shows nobody, whatever the kind would make of it; or if high
    values are dark and the kind is "raw".
    """
    if not instance.text("PhotometricInterpretation").startswith("MONOCHROME"):
        colors = _varied(np.asarray(picture(instance.path), np.float32))
        return scaling.unit(colors if scaling.kind == "raw" else colors / np.float32(255))
    if scaling.kind == "display":
        return without_padding(_varied(display_values(instance.path, padding=np.nan)))[0]
    is_dark = is_inverted(instance)
    values, is_padding = without_padding(_varied(image_values(instance.path)), is_inverted=is_dark)
    return scaling.unit(values, shown_values(values, is_padding), is_inverted=is_dark)
