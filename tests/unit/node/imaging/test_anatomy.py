import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr.coding import Code

from ainode.node.domain import Header
from ainode.node.imaging.anatomy import _CODES, PARTS, body_part, contradiction


def region(value: str, scheme: str = "SCT", meaning: str = "") -> Header:
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


def test_the_code_wins_over_body_part_examined_and_that_over_descriptions() -> None:
    header: Header = {
        "AnatomicRegionSequence": (region("122495006"),),
        "BodyPartExamined": "CHEST",
        "SeriesDescription": "Hand AP",
    }
    assert body_part(header).parts == ("TSPINE",)
    assert body_part(header).attribute == "AnatomicRegionSequence"
    assert body_part({**header, "AnatomicRegionSequence": ()}).parts == ("CHEST",)
    assert body_part({"BodyPartExamined": "", "SeriesDescription": "Hand AP"}).parts == ("HAND",)


@pytest.mark.parametrize(
    ("code", "part"),
    [
        (region("421060004"), "SPINE"),
        (region("T-11501", "SRT"), "CSPINE"),
        (region("T-A0100", "SNM3"), "BRAIN"),
        (region("51185008"), "CHEST"),
        (region("4711", "99SITE", "Lumbar spine"), "LSPINE"),
    ],
)
def test_codes_of_snomed_ct_of_its_retired_form_and_meanings_of_unknown_schemes_name_a_part(
    code: Header, part: str
) -> None:
    assert body_part({"AnatomicRegionSequence": (code,)}).parts == (part,)


def test_a_code_counts_only_in_its_own_scheme() -> None:
    assert body_part({"AnatomicRegionSequence": (region("122495006", "99SITE"),)}).parts == ()


def test_the_region_of_the_frames_counts_in_a_multi_frame_image() -> None:
    frames = ({"FrameAnatomySequence": ({"AnatomicRegionSequence": (region("39607008"),)},)},)
    assert body_part({"SharedFunctionalGroupsSequence": frames}).parts == ("LUNG",)


# Retired codes of concepts that CID 4 has since replaced; pydicom's table does not have them.
REPLACED = {"T-11500", "T-D3000", "T-D4000", "T-D6000", "R-FAB57", "T-01000"}


@pytest.mark.parametrize("codes", _CODES.values())
def test_a_retired_code_means_the_same_as_a_current_one_of_its_part(codes: str) -> None:
    current = [Code(code, "SCT", "") for code in codes.split() if code.isdigit()]
    for retired in codes.split():
        if not retired.isdigit() and retired not in REPLACED:
            assert Code(retired, "SRT", "") in current, retired


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("CSPINE", "CSPINE"),
        ("T-SPINE", "TSPINE"),
        ("l spine", "LSPINE"),
        ("LWS", "LSPINE"),
        ("Lumbar_Spine", "LSPINE"),
        ("THORAX", "CHEST"),
        ("WHOLE BODY", "WHOLEBODY"),
        ("CHEST_TO_PELVIS", "CHESTABDPELVIS"),
        ("PANCREAS", "PANCREAS"),
        ("SKIN", "SKIN"),
    ],
)
def test_body_part_examined_is_understood_as_people_write_it(value: str, part: str) -> None:
    assert body_part({"BodyPartExamined": value, "StudyDescription": "XR Hand"}).parts == (part,)


def test_a_body_part_examined_that_nobody_knows_leaves_the_word_to_the_descriptions() -> None:
    assert body_part({"BodyPartExamined": "DEFAULT", "StudyDescription": "XR Hand"}).parts == ("HAND",)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("XR T-Spine 2 views", ("TSPINE",)),
        ("Thoracic spine lateral", ("TSPINE",)),
        ("Chest wall", ("CHEST",)),
        ("LWS in 2 Ebenen", ("LSPINE",)),
        ("Halswirbelsäule seitlich", ("CSPINE",)),
        ("BRUSTWIRBELSAEULE ap", ("TSPINE",)),
        ("Wirbelsäule", ("SPINE",)),
        ("Rx rachis lombaire face/profil", ("LSPINE",)),
        ("Rachis", ("SPINE",)),
        ("RX COLUMNA DORSAL AP", ("TSPINE",)),
        ("Columna", ("SPINE",)),
        ("RX colonna lombo-sacrale", ("LSSPINE",)),
        ("Colonna cervicale", ("CSPINE",)),
        ("Thorax p.a.", ("CHEST",)),
        ("Radiographie du poumon", ("LUNG",)),
        ("RX torace", ("CHEST",)),
        ("Tórax PA", ("CHEST",)),
        ("Hüfte links", ("HIP",)),
        ("Main droite", ("HAND",)),
        ("Fuß seitlich", ("FOOT",)),
        ("CT CHEST ABD PELVIS WITH CON", ("CHESTABDPELVIS",)),
        ("Thorax und LWS", ("CHEST", "LSPINE")),
        ("Thoracic and lumbar spine", ("TLSPINE",)),
    ],
)
def test_whole_words_in_five_languages_name_a_part(text: str, parts: tuple[str, ...]) -> None:
    assert body_part({"StudyDescription": text}).parts == parts


@pytest.mark.parametrize(
    "text",
    [
        "PHARMA trial",
        "ALLEGRO",
        "SpinEcho",
        "Main series",
        "C-arm fluoroscopy",
        "Feet first supine",
        "CHESTER",
        "5mm",
        "",
    ],
)
def test_no_part_of_a_word_and_no_idiom_names_a_part(text: str) -> None:
    assert body_part({"StudyDescription": text}).parts == ()


def test_the_series_is_asked_before_the_study() -> None:
    header = {"SeriesDescription": "Lumbar lateral", "ProtocolName": "5mm", "StudyDescription": "XR Chest"}
    assert str(body_part(header)) == "LSPINE (SeriesDescription: lumbar)"


@pytest.mark.parametrize(
    ("part", "group"),
    [("CSPINE", "SPINE"), ("WHOLEBODY", "CHEST"), ("HIP", "PELVIS"), ("HIP", "EXTREMITY"), ("PANCREAS", "ABDOMEN")],
)
def test_a_part_goes_by_the_names_of_its_groups(part: str, group: str) -> None:
    assert group in body_part({"BodyPartExamined": part}).names


def test_every_part_is_understood_in_body_part_examined() -> None:
    assert {body_part({"BodyPartExamined": part}).parts for part in PARTS} == {(part,) for part in PARTS}


@given(st.text(max_size=60))
def test_any_text_is_a_description(text: str) -> None:
    assert set(body_part({"StudyDescription": text}).parts) <= PARTS


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ({"BodyPartExamined": "LSPINE", "SeriesDescription": "Knee AP", "StudyDescription": "Knie"}, "LSPINE, KNEE"),
        ({"BodyPartExamined": "CSPINE", "SeriesDescription": "LWS ap"}, "CSPINE, LSPINE"),
        (
            {"AnatomicRegionSequence": (region("122495006"),), "BodyPartExamined": "HAND", "ProtocolName": "hand"},
            "TSPINE",
        ),
    ],
)
def test_a_label_that_every_description_contradicts_is_said_with_both_parts(header: Header, parts: str) -> None:
    sentence = contradiction(header)
    assert all(part in sentence for part in parts.split(", "))
    assert "look which part is shown" in sentence


@pytest.mark.parametrize(
    "header",
    [
        {"BodyPartExamined": "LSPINE", "SeriesDescription": "AP", "StudyDescription": "12345"},
        {"BodyPartExamined": "LSPINE", "SeriesDescription": "knee", "StudyDescription": "LWS ap"},
        {"BodyPartExamined": "SPINE", "SeriesDescription": "Lumbar spine"},
        {"BodyPartExamined": "LSPINE", "SeriesDescription": "Wirbelsaule"},
        {"BodyPartExamined": "TLSPINE", "SeriesDescription": "LWS"},
        {"BodyPartExamined": "CHESTABDOMEN", "SeriesDescription": "Thorax"},
        {"BodyPartExamined": "", "SeriesDescription": "knee"},
        {},
    ],
)
def test_a_description_that_agrees_or_says_nothing_contradicts_nothing(header: Header) -> None:
    assert not contradiction(header)
