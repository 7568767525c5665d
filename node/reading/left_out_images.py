"""What the series that were read hold beside the images that were read, in the report's words; pure."""

from collections.abc import Set as AbstractSet

from ainode.node.domain import Instance, Selection, Series, Study
from ainode.node.identity import is_ours
from ainode.node.imaging.acquisitions import distinction
from ainode.node.imaging.picture_kind import LOCALIZER, refused_kind


def left_out_images(selection: Selection, study: Study) -> tuple[tuple[str, str], ...]:
    """Return the parameter that counts what was not selected of each series; none where nothing is left out.

    Localizers are no images that somebody expects to be read, and of what the selection declines it says why itself.
    """
    selected = {instance.ref.sop_instance_uid for instance in selection.instances}
    named = selected | set(selection.declined)
    texts = [text for series in study.series if (text := _left_out(series, selected, named))]
    return (("left out", "; ".join(texts)),) if texts else ()


def _left_out(series: Series, selected: AbstractSet[str], named: AbstractSet[str]) -> str:
    images = list(filter(_is_expected, series.instances))
    read = [instance for instance in images if instance.ref.sop_instance_uid in selected]
    left = [instance for instance in images if instance.ref.sop_instance_uid not in named]
    if not read or not left or series.modality == "SEG":
        return ""
    count = f"{len(left)} of {len(images)} images of series {series.series_instance_uid} are left out"
    return f"{count}: {distinction((read, left))} in those read and those left out"


def _is_expected(instance: Instance) -> bool:
    """Return whether somebody may expect that an instance is read: an image, and no localizer."""
    refused = refused_kind(instance)
    return bool(instance.text("Rows")) and not is_ours(instance) and not (refused and refused[0] == LOCALIZER)
