import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ainode.node import settings
from ainode.node.deciding import router
from ainode.node.deciding.reasons import deciding_words
from ainode.node.domain import (
    UID,
    Instance,
    InstanceRef,
    Series,
    Study,
    Value,
)
from ainode.node.encoding import headers
from ainode.node.errors import CannotUnderstand, ConfigError
from ainode.node.routes import AN_IMAGE, OF_EVERY_IMAGE, BodyPartSource, Check, Route

SHARED = Path(os.environ.get("AINODE_SHARED", Path(__file__).resolve().parents[5] / "shared"))
SPINE_IMAGE: dict[str, Value] = {
    "Modality": "DX",
    "BodyPartExamined": "TSPINE",
    "ImageType": ("DERIVED", "PRIMARY", ""),
    "Rows": 1024,
    "Columns": 800,
}


def taken(study: Study, route: Route) -> bool:
    return bool(router.chosen(study, route).series)


def shipped(name: str = "spine-radiograph") -> Route:
    return next(route for route in settings.load().routes if route.name == name)


def a_series(*images: dict[str, Value], uid: str = "1.2.3") -> Series:
    instances = tuple(
        Instance(
            InstanceRef(UID("1.2"), UID(uid), UID("1.2.840.10008.5.1.4.1.1.1.1"), UID(f"{uid}.{number}")),
            UID("1.2.840.10008.1.2.1"),
            Path(),
            "",
            1,
            image,
        )
        for number, image in enumerate(images)
    )
    return Series(UID(uid), str(images[0].get("Modality", "")), instances)


def a_study(*series: Series) -> Study:
    return Study(UID("1.2"), series)


def failed(study: Study, route: Route) -> list[Check]:
    decisions = router.decide(study, (route,))
    return [check for decision in decisions for check in decision.checks if not check.passed]


def test_the_shipped_route_takes_a_spine_radiograph_and_says_so() -> None:
    study = a_study(a_series(SPINE_IMAGE))
    assert taken(study, shipped())
    (decision,) = router.decide(study, (shipped(),))
    assert router.explained(decision) == "spine-radiograph: yes, modality DX, body part TSPINE"


def test_what_the_node_asks_of_every_image_and_what_keeps_strangers_out_is_no_reason_of_a_match() -> None:
    scan: dict[str, Value] = {"Modality": "CT", "StudyDescription": "chest", "Rows": 512, "Columns": 512}
    tags = {"Rows": ">=16", "PatientPosition": "!HFDL", "StudyDescription": "*chest*"}
    route = Route("lung", "lung", ("CT",), ("CHEST",), tags=tags, min_instances=16)
    (decision,) = router.decide(a_study(a_series(*[scan] * 20)), [route])
    assert decision.matched
    assert {check.expected for check in decision.checks} >= OF_EVERY_IMAGE - {AN_IMAGE}
    words = "modality CT, body part CHEST (by Study Description: chest), Study Description chest, 20 images"
    assert deciding_words(decision.checks) == words
    assert deciding_words(router.decide(a_study(a_series(scan)), [Route("any", "any")])[0].checks) == "modality CT"


def test_the_view_and_the_kind_of_image_are_told_by_name() -> None:
    kind = "1.2.840.10008.5.1.4.1.1.77.1.4"
    image: dict[str, Value] = {"Modality": "XC", "SOPClassUID": kind, "ViewPosition": "AP", "Rows": 64, "Columns": 64}
    route = Route("skin", "skin", tags={"ViewPosition": "AP|PA", "SOPClassUID": kind})
    (decision,) = router.decide(a_study(a_series(image)), [route])
    words = "modality XC, view AP, kind of image VL Photographic Image Storage"
    assert router.explained(decision) == f"skin: yes, {words}"


def test_the_shipped_routes_are_sound_and_send_to_nobody() -> None:
    for route in settings.load().routes:
        router.refuse_broken(route)
        assert route.destinations == ()


@pytest.mark.parametrize(
    ("change", "attribute", "found"),
    [
        ({"Modality": "RF"}, "Modality", "RF"),
        ({"BodyPartExamined": "CHEST"}, "BodyPartExamined", "CHEST (BodyPartExamined: CHEST)"),
        (
            {"BodyPartExamined": ""},
            "BodyPartExamined",
            "unknown: no anatomic code, Body Part Examined or description names a part",
        ),
        ({"Rows": 16}, "Rows", "16"),
        ({"ImageType": ("DERIVED", "SECONDARY")}, "ImageType", "DERIVED\\SECONDARY"),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "ImageType", "LOCALIZER"),
        ({"ManufacturerModelName": "AINODE"}, "ManufacturerModelName", "AINODE"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "PresentationIntentType", "FOR PROCESSING"),
    ],
)
def test_one_wrong_attribute_refuses_a_series_and_is_the_only_one_named(
    change: dict[str, Value], attribute: str, found: str
) -> None:
    checks = failed(a_study(a_series({**SPINE_IMAGE, **change})), shipped())
    assert [(check.attribute, check.found) for check in checks] == [(attribute, found)]


@pytest.mark.parametrize("modality", ["SR", "PR", "KO", "SEG", "OT", "RTSTRUCT", ""])
def test_a_document_is_no_image_for_a_route_that_names_no_modality(modality: str) -> None:
    study = a_study(a_series({**SPINE_IMAGE, "Modality": modality}))
    assert [check.attribute for check in failed(study, Route("any", "any"))] == ["Modality"]
    if modality:
        assert taken(study, Route("any", "any", modality=(modality,)))


def test_an_image_without_pixels_is_refused_by_every_route() -> None:
    study = a_study(a_series({"Modality": "CT"}))
    assert [(one.attribute, one.found) for one in failed(study, Route("any", "any"))] == [("Rows", "absent x absent")]


def test_a_scout_is_known_by_its_description_in_ct_and_not_in_radiography() -> None:
    scout: dict[str, Value] = {**SPINE_IMAGE, "SeriesDescription": "L-Spine Scout"}
    assert taken(a_study(a_series(scout)), Route("any", "any"))
    checks = failed(a_study(a_series({**scout, "Modality": "CT"})), Route("any", "any"))
    assert [(check.attribute, check.found) for check in checks] == [("ImageType", "SCOUT")]


def test_a_route_with_its_own_image_type_decides_on_derived_pictures_itself() -> None:
    study = a_study(a_series({**SPINE_IMAGE, "ImageType": ("DERIVED", "SECONDARY")}))
    assert taken(study, Route("any", "any", tags={"ImageType": "DERIVED"}))


def test_conditions_narrow_a_series_to_the_images_that_fit_all_of_them() -> None:
    thumbnail: dict[str, Value] = {**SPINE_IMAGE, "Rows": 64, "Columns": 64}
    study = a_study(a_series(thumbnail, SPINE_IMAGE))
    assert taken(study, shipped())
    assert [one.header["Rows"] for one in router.chosen(study, shipped()).instances] == [1024]
    two = Route("two", "any", tags={"Rows": ">=256"}, min_instances=2)
    assert failed(study, two) == [Check("number of images that fit", ">=2", "1", passed=False)]


def test_too_few_images_that_are_multi_frame_are_explained_by_that_word() -> None:
    study = a_study(a_series(SPINE_IMAGE | {"NumberOfFrames": 40}))
    (check,) = failed(study, Route(name="slices", handler="h", modality=("DX",), min_instances=16))
    assert check.found == "1, multi-frame of 40 frames"


def test_no_image_that_fits_half_and_another_that_fits_the_other_half_make_a_match() -> None:
    study = a_study(a_series({**SPINE_IMAGE, "Rows": 64}, {**SPINE_IMAGE, "BodyPartExamined": "HAND"}))
    assert not taken(study, shipped())


def test_counts_are_counted_by_the_node_and_not_believed() -> None:
    study = a_study(
        a_series(*[{**SPINE_IMAGE, "NumberOfSeriesRelatedInstances": 99}] * 3), a_series(SPINE_IMAGE, uid="9")
    )
    tags = {"NumberOfSeriesRelatedInstances": "2..3", "NumberOfStudyRelatedInstances": "4"}
    decisions = router.decide(study, (Route("count", "any", tags={**tags, "NumberOfStudyRelatedSeries": "2"}),))
    assert [decision.matched for decision in decisions] == [True, False]


def test_a_further_series_that_is_missing_is_named() -> None:
    route = Route("both", "any", required_series=({"Modality": "MR", "SeriesDescription": "*T2*"},))
    t2: dict[str, Value] = {**SPINE_IMAGE, "Modality": "MR", "SeriesDescription": "t2_tse"}
    assert taken(a_study(a_series(SPINE_IMAGE), a_series(t2, uid="9")), route)
    checks = failed(a_study(a_series(SPINE_IMAGE)), route)
    expected = "Modality MR and SeriesDescription *T2*"
    assert checks == [Check("a further series", expected, "not among 1 series of the study", passed=False)]


def test_a_patient_attribute_decides_but_is_not_shown() -> None:
    study = a_study(a_series({**SPINE_IMAGE, "PatientSex": "F"}))
    checks = failed(study, Route("any", "any", tags={"PatientSex": "M"}))
    assert [check.found for check in checks] == ["a patient attribute, not shown"]


def test_every_route_is_decided_on_every_series() -> None:
    study = a_study(a_series(SPINE_IMAGE), a_series(SPINE_IMAGE, uid="9"))
    routes = (shipped(), Route("any", "any"))
    found = [(decision.route, decision.series_instance_uid) for decision in router.decide(study, routes)]
    assert found == [("spine-radiograph", "1.2.3"), ("spine-radiograph", "9"), ("any", "1.2.3"), ("any", "9")]


def test_a_job_is_made_of_the_series_that_match_and_of_no_localizer_among_them() -> None:
    scout: dict[str, Value] = {**SPINE_IMAGE, "ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}
    study = a_study(a_series(scout, SPINE_IMAGE), a_series({**SPINE_IMAGE, "Modality": "MR"}, uid="9"))
    chosen = router.chosen(study, shipped())
    assert [one.ref.sop_instance_uid for one in chosen.instances] == ["1.2.3.1"]
    assert router.chosen(study, Route("hip", "hip", body_part=("HIP",))).series == ()


def test_the_keywords_of_tags_and_required_series_are_asked_for() -> None:
    route = Route("any", "any", tags={"KVP": ">50"}, required_series=({"EchoTime": "<90"},))
    assert router.keywords((route,)) == {"KVP", "EchoTime"}


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        (Route("r", "h", tags={"Row": ">=256"}), "'Row' is no keyword"),
        (Route("r", "h", tags={"Rows": ">=big"}), "a number must follow"),
        (Route("r", "h", required_series=({"Nonsense": "1"},)), "'Nonsense' is no keyword"),
        (Route("r", "h", body_part=("SPINAL",)), "body part 'SPINAL'"),
    ],
)
def test_a_route_that_could_never_match_as_meant_is_refused(route: Route, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as refusal:
        router.refuse_broken(route)
    assert "route 'r'" in str(refusal.value)


def real_studies() -> Iterator[Study]:
    by_study: dict[UID, list[Instance]] = {}
    for path in sorted((SHARED / "data/dicom").rglob("*")):
        if path.is_file():
            try:
                one = headers.instance(path, sha256="")
            except CannotUnderstand:
                continue
            by_study.setdefault(one.ref.study_instance_uid, []).append(one)
    return (headers.study(instances) for instances in by_study.values())


# The first condition that fails, by a part of the path; what is not listed is no CR or DX.
REFUSED = {
    "cr_cspine_16x16_headers": ("Rows", "16"),
    "RG1_": ("BodyPartExamined", "CHEST (BodyPartExamined: CHEST)"),
    "RG2_": ("BodyPartExamined", "HIP (BodyPartExamined: HIP)"),
    "RG3_": ("BodyPartExamined", "EXTREMITY (BodyPartExamined: EXTREMITY)"),
    "gdcm-CR-MONO1-10-chest": ("BodyPartExamined", "CHEST (BodyPartExamined: CHEST)"),
    "dx_image": ("BodyPartExamined", "CHEST (BodyPartExamined: THORAX)"),
    "CR-ModalitySequenceLUT": ("BodyPartExamined", "TEETH (SeriesDescription: teeth)"),
}


@pytest.mark.skipif(not (SHARED / "data/dicom").is_dir(), reason="the real DICOM of shared/data/dicom is absent")
def test_of_the_real_studies_only_the_thoracic_spines_match_and_the_others_say_why() -> None:
    matched, refused, modalities = set(), set(), set()
    for study in real_studies():
        for series, decision in zip(study.series, router.decide(study, (shipped(),)), strict=True):
            path = str(series.instances[0].path)
            if decision.matched:
                matched |= {one.path.name for one in series.instances}
                continue
            first = next(check for check in decision.checks if not check.passed)
            listed = next((part for part in REFUSED if part in path), None)
            if listed:
                assert (first.attribute, first.found) == REFUSED[listed], path
                refused.add(listed)
            else:
                assert first.attribute == "Modality", path
                modalities.add(first.found)
    assert matched == {"tspine_ap_mono2.dcm", "tspine_lat_mono2.dcm", "tspine_lat_mono1.dcm"}
    assert refused == set(REFUSED)
    assert {"CT", "MR", "OT", "SR", "SEG", "US"} <= modalities


@pytest.mark.skipif(not (SHARED / "data/dicom").is_dir(), reason="the real DICOM of shared/data/dicom is absent")
def test_a_real_scout_is_refused_as_a_localizer_by_a_route_for_ct() -> None:
    scout = headers.instance(SHARED / "data/dicom/ct_abdomen/scout_TCGA-D1-A0ZP/1-1.dcm", sha256="")
    checks = failed(headers.study([scout]), Route("ct", "any", modality=("CT",)))
    assert [(check.attribute, check.found) for check in checks] == [("ImageType", "LOCALIZER, TOPOGRAM")]


def test_a_ct_that_names_no_part_is_left_to_its_pixels_where_the_route_says_so() -> None:
    unnamed: dict[str, Value] = {"Modality": "CT", "Rows": 512, "Columns": 512, "ImageType": ("ORIGINAL", "PRIMARY")}
    by_header = Route("chest", "ct_pneumonia", modality=("CT",), body_part=("CHEST",))
    by_pixels = replace(by_header, body_part_from=BodyPartSource.PIXELS)
    study = a_study(a_series(unnamed))
    assert not taken(study, by_header)
    assert taken(study, by_pixels)
    (decision,) = router.decide(study, (by_pixels,))
    (check,) = [check for check in decision.checks if check.attribute == "BodyPartExamined"]
    assert check.expected == "CHEST, or a CT that names no part"
    assert not taken(a_study(a_series({**unnamed, "BodyPartExamined": "HEAD"})), by_pixels)
    assert not taken(a_study(a_series({**unnamed, "Modality": "MR"})), replace(by_pixels, modality=()))


@pytest.mark.parametrize("parts", [(), ("HEAD",)])
def test_a_route_cannot_leave_to_the_pixels_what_pixels_do_not_tell(parts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="needs ABDOMEN or CHEST in body_part"):
        router.refuse_broken(Route("x", "y", body_part=parts, body_part_from=BodyPartSource.PIXELS))
