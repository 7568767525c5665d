"""Where the images of a workitem are, and that no other machine is called for them."""

import pytest

from ainode.node.archive.workitem import InputItem, Workitem
from ainode.node.domain import UID
from ainode.node.settings import Peer
from ainode.node.workitems.inputs import Images, Unreachable, images_of

OWN = Peer(name="own", deliver="dicomweb", retrieve="dicomweb", dicomweb="https://pacs.example/dicom-web")
OTHER = Peer(
    name="other", ae_title="OTHER", host="h", port=104, dicomweb="http://10.0.0.7:8042/aets/A/rs", retrieve="dicomweb"
)
DIMSE = Peer(name="dimse", ae_title="DIMSE", host="h", port=104)
STUDY = UID("1.2.3")


def found(*inputs: InputItem, study: str = "1.2.3") -> Images | Unreachable:
    return images_of(Workitem(UID("9"), study_instance_uid=UID(study), inputs=inputs), OWN, (OWN, OTHER, DIMSE))


@pytest.mark.parametrize(
    ("item", "source"),
    [
        (InputItem(STUDY), "own"),
        (InputItem(STUDY, addresses=("https://pacs.example/dicom-web/studies/1.2.3",)), "own"),
        (InputItem(STUDY, addresses=("https://pacs.example:443/dicom-web",)), "own"),
        (InputItem(STUDY, addresses=("https://PACS.example/dicom-web/studies/1.2.3/series/4",)), "own"),
        (InputItem(STUDY, addresses=("http://10.0.0.7:8042/aets/A/rs/studies/1.2.3",)), "other"),
        (InputItem(STUDY, ae_titles=("OTHER",)), "other"),
        (InputItem(STUDY, ae_titles=("OTHER",), addresses=("http://evil.example/rs",)), "other"),
    ],
)
def test_the_images_are_fetched_from_the_peer_that_the_item_names(item: InputItem, source: str) -> None:
    assert found(item) == Images(STUDY, source)


@pytest.mark.parametrize(
    "item",
    [
        InputItem(STUDY, addresses=("https://evil.example/dicom-web/studies/1.2.3",)),
        InputItem(STUDY, addresses=("http://pacs.example/dicom-web/studies/1.2.3",)),
        InputItem(STUDY, addresses=("https://pacs.example:8443/dicom-web/studies/1.2.3",)),
        InputItem(STUDY, addresses=("https://pacs.example/dicom-webs/studies/1.2.3",)),
        InputItem(STUDY, addresses=("https://pacs.example@evil.example/dicom-web/studies/1.2.3",)),
        InputItem(STUDY, addresses=("https://pacs.example:x/dicom-web",)),
        InputItem(STUDY, addresses=("file:///etc/passwd",)),
        InputItem(STUDY, ae_titles=("DIMSE",)),
        InputItem(STUDY, ae_titles=("STRANGER",)),
    ],
)
def test_images_at_an_address_that_no_peer_has_are_not_fetched(item: InputItem) -> None:
    assert isinstance(found(item), Unreachable)


def test_of_several_studies_the_one_is_read_that_the_output_belongs_to() -> None:
    prior = InputItem(UID("1.2.2"), addresses=("http://evil.example/rs",))
    assert found(prior, InputItem(STUDY)) == Images(STUDY, "own")
    assert isinstance(found(prior, InputItem(STUDY), study="1.2.9"), Unreachable)


def test_an_item_that_names_no_study_is_refused_and_one_without_input_names_it_itself() -> None:
    assert found() == Images(STUDY, "own")
    assert isinstance(found(study=""), Unreachable)
    assert isinstance(found(study="../../etc"), Unreachable)
    assert found(InputItem(UID("1.2.8")), study="") == Images(UID("1.2.8"), "own")
