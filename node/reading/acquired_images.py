"""Whether all images of an acquisition that was read are there, in the report's words; pure."""

from ainode.node.domain import UID, Result, Study


def missing_images(result: Result, study: Study) -> tuple[tuple[str, str], ...]:
    """Return the parameter that says that images of an acquisition may be missing; none where nothing says so.

    A vendor may count the images of reconstructions that nobody sends, so this is a note and no refusal. All series
    of the study are counted, since an acquisition may have several.
    Source: PS3.3 C.7.6.1 (0020,1002), Images in Acquisition.
    """
    read = {ref.series_instance_uid for ref in result.evidence}
    announced: dict[str, int] = {}
    here: dict[str, set[UID]] = {}
    for instance in study.instances:
        acquisition = instance.text("AcquisitionNumber")
        here.setdefault(acquisition, set()).add(instance.ref.sop_instance_uid)
        count = instance.header.get("ImagesInAcquisition")
        has_frames = instance.text("NumberOfFrames") not in {"", "1"}
        if isinstance(count, int) and instance.ref.series_instance_uid in read and not has_frames:
            announced[acquisition] = max(count, announced.get(acquisition, 0))
    few = [
        (len(here[acquisition]), count) for acquisition, count in announced.items() if len(here[acquisition]) < count
    ]
    if not few:
        return ()
    counts = ", ".join(f"{number} of {count}" for number, count in few)
    return (("images", f"{counts} by Images in Acquisition (0020,1002) are here: images may be missing"),)
