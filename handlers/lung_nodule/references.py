"""The images and objects that the answer on nodules rests on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ainode.node.domain import OWN_REPORT, OWN_SEARCH, InstanceRef, Selection

if TYPE_CHECKING:
    from ainode.handlers.lung_nodule.findings import Nodule


def key_images(nodules: Sequence["Nodule"]) -> tuple[InstanceRef, ...]:
    """Return the key slices: of the current study first, then of the priors, the newest prior first."""
    current = [nodule.place.key_slice for nodule in nodules]
    return tuple(dict.fromkeys(current + [place.key_slice for nodule in nodules for _, place in nodule.trace.priors]))


def evidence(selection: Selection, nodules: Sequence["Nodule"]) -> tuple[InstanceRef, ...]:
    """Return the slices that were read and the objects with their marks, of the current study first."""
    places = [place for item in nodules for place in reversed(item.trace.places)]
    pointed_into = {place.key_slice.study_instance_uid for place in places if place.followed is None}
    pointing = [item.ref for item in selection.instances if item.text("Modality") != "CT"]
    slices = [ref for place in places for ref in place.refs]
    references = dict.fromkeys([*slices, *(ref for ref in pointing if ref.study_instance_uid in pointed_into)])
    return tuple(sorted(references, key=lambda ref: ref.study_instance_uid != selection.study_instance_uid))


def continued(selection: Selection, nodules: Sequence["Nodule"]) -> tuple[InstanceRef, ...]:
    """Return the earlier reports of this node that located the nodules."""
    places = [place for item in nodules for place in item.trace.places]
    own = {OWN_REPORT, OWN_SEARCH}
    own_report_studies = {item.key_slice.study_instance_uid for item in places if item.location.source in own}
    reports = (item.ref for item in selection.instances if item.text("Modality") == "SR")
    return tuple(ref for ref in reports if ref.study_instance_uid in own_report_studies)
