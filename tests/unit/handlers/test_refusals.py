"""Images that are not read are named by their reasons, each reason once."""

from pathlib import Path

import pytest

from ainode.handlers import each_read, grouped, image_refusal, readable, unread
from ainode.models.errors import UnusablePicture
from ainode.node import testing
from ainode.node.domain import Instance, OutOfScope, Selection, Study
from ainode.node.encoding import headers
from ainode.node.errors import BrokenSeries

PARTS = {"HAND": "the body part is HAND; the model reads SPINE", "KNEE": "the body part is KNEE; the model reads SPINE"}


def a_study(folder: Path, *parts: str) -> Study:
    images = [testing.noise(16, 16, BodyPartExamined=part) for part in parts]
    paths = testing.write(images, folder / "study", study="study")
    return headers.study(headers.instance(path, sha256="") for path in paths)


def refusal(instance: Instance) -> OutOfScope | None:
    part = instance.text("BodyPartExamined")
    return image_refusal(instance, PARTS[part], "wrong-body-part") if part in PARTS else None


def test_a_single_refused_image_is_named_by_its_uid(tmp_path: Path) -> None:
    study = a_study(tmp_path, "HAND")
    answer = readable(study, refusal)
    assert isinstance(answer, OutOfScope)
    assert answer.reason == f"image {study.instances[0].ref.sop_instance_uid}: {PARTS['HAND']}"


def test_a_study_of_refused_images_names_each_reason_once_the_most_frequent_first(tmp_path: Path) -> None:
    study = a_study(tmp_path, "KNEE", "HAND", "HAND", "HAND")
    answer = readable(study, refusal)
    assert isinstance(answer, OutOfScope)
    (knee,) = (item for item in study.instances if item.text("BodyPartExamined") == "KNEE")
    assert answer.reason == f"3 images: {PARTS['HAND']}; image {knee.ref.sop_instance_uid}: {PARTS['KNEE']}"
    assert set(answer.evidence) == {instance.ref for instance in study.instances}


def test_images_beside_those_that_are_read_are_not_dropped_in_silence(tmp_path: Path) -> None:
    selection = readable(a_study(tmp_path, "TSPINE", "HAND", "HAND"), refusal)
    assert isinstance(selection, Selection)
    assert len(selection.instances) == 1
    assert unread(selection.declined.values()) == {"images not read": f"2 images: {PARTS['HAND']}"}


def test_nothing_is_said_where_every_image_is_read() -> None:
    assert unread(()) == {}


def test_one_image_that_cannot_be_decoded_spares_the_others(tmp_path: Path) -> None:
    study = a_study(tmp_path, "TSPINE", "LSPINE", "SPINE")
    broken, unusable, good = study.instances

    def read(instance: Instance) -> str:
        if instance == broken:
            raise BrokenSeries("its pixels cannot be decoded")
        if instance == unusable:
            raise UnusablePicture("the picture is uniform")
        return "read"

    predictions, refusals = each_read(study.instances, read)
    assert predictions == [(good, "read")]
    assert [item.code for item in refusals] == ["undecodable", "unusable-pixels"]
    assert "the picture is uniform" in grouped(refusals).reason


def test_a_study_whose_images_cannot_be_decoded_is_an_error_and_no_refusal(tmp_path: Path) -> None:
    def read(instance: Instance) -> str:
        raise BrokenSeries(f"{instance.path.name} cannot be decoded")

    with pytest.raises(BrokenSeries):
        each_read(a_study(tmp_path, "SPINE", "SPINE").instances, read)
