"""Raw values, localizers and screens of a viewer are told from pictures to read, by their headers."""

from pathlib import Path

import pytest

from ainode.node.domain import UID, Instance, InstanceRef
from ainode.node.imaging.picture_kind import KINDS, no_picture, refused_kind

DX, DX_RAW, CT, CAPTURE, PET = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1.1", "1.1.1", "2", "7", "128"))
LOCALIZER = ("ORIGINAL", "PRIMARY", "LOCALIZER")


def _image(sop_class: str, modality: str, **header: str | tuple[str, ...]) -> Instance:
    ref = InstanceRef(UID("1.2"), UID("1.2.3"), UID(sop_class), UID("1.2.3.4"))
    return Instance(ref, UID("1.2.4"), Path("image.dcm"), "", 0, {"Modality": modality, **header})


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (_image(DX, "DX", PresentationIntentType="FOR PROCESSING"), "for_processing", "raw values of a detector"),
        (_image(DX_RAW, "DX"), "for_processing", "the image FOR PRESENTATION is read"),
        (_image(CT, "CT", ImageType=LOCALIZER), "localizer", "a localizer by Image Type"),
        (_image(CAPTURE, "DX", ConversionType="WSD"), "secondary_capture", "(Conversion Type WSD), which may be what"),
        (_image(CAPTURE, "CT"), "secondary_capture", "(without Conversion Type)"),
        (
            _image(CT, "CT", ConversionType="WSD"),
            "secondary_capture",
            "an image that a workstation made (Conversion Type WSD)",
        ),
        (_image(PET, "PT", CorrectedImage=("DECY", "SCAT")), "uncorrected", "its attenuation is not corrected"),
        (_image(DX, "DX", ImageType=("DERIVED", "SECONDARY", "SCREEN SAVE")), "secondary_capture", "says SCREEN SAVE"),
    ],
)
def test_what_is_no_picture_is_refused_unless_its_kind_is_taken_too(image: Instance, kind: str, words: str) -> None:
    refusal = no_picture(image)
    assert refusal
    assert (words in refusal[0], refusal[1]) == (True, "no-picture"), refusal
    assert refused_kind(image, (kind,)) is None
    assert refused_kind(image, [other for other in KINDS if other != kind]) == (kind, refusal[0])


@pytest.mark.parametrize(
    "image",
    [
        _image(DX, "DX", PresentationIntentType="FOR PRESENTATION"),
        _image(CAPTURE, "CR", ConversionType="DF"),
        _image(CAPTURE, "XC", ConversionType="WSD"),
        _image(CAPTURE, "OT"),
        _image(CT, "CT", ConversionType="DV"),
        _image(DX, "DX", ConversionType="WSD"),
        _image(DX, "DX", ImageType=("ORIGINAL", "PRIMARY", "SCOUT")),
        _image(CT, "CT", ImageType=("ORIGINAL", "PRIMARY", "AXIAL")),
        _image(PET, "PT", CorrectedImage=("DECY", "ATTN")),
        _image(PET, "PT"),
    ],
    ids=["shown", "film", "photograph", "other", "device", "workstation", "scout film", "axial", "corrected", "silent"],
)
def test_a_picture_is_read(image: Instance) -> None:
    assert no_picture(image) is None
