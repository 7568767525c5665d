from datetime import date
from pathlib import Path

import pytest

from ainode.node.archive.search import SeriesEntry, StudyEntry, StudyQuery
from ainode.node.domain import UID, Patient
from ainode.node.errors import ConfigError
from ainode.node.priors.rules import StudyIdentity, patient_difference, series_to_fetch, study_query, usable_studies
from ainode.node.routes import PriorRule
from ainode.node.settings import load

ADA = Patient("7", "HOSPITAL", "19500101")
CURRENT = StudyIdentity(UID("1.2.9"), ADA, "20260101", "120000")
RULE = PriorRule("archive", modality=("CT",), body_part=("CHEST",))


def study(number: int, day: str, patient: Patient = ADA, **values: object) -> StudyEntry:
    return StudyEntry(UID(f"1.2.{number}"), patient, day, modalities=("CT",), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (ADA, ""),
        (Patient("7", "", "19500101"), ""),
        (Patient("7", "HOSPITAL", "19500102"), "another birth date"),
        (Patient("7", "CLINIC", "19500101"), "the same Patient ID of another issuer"),
        (Patient("77", "HOSPITAL", "19500101"), "another Patient ID"),
        (Patient("", "HOSPITAL", "19500101"), "another Patient ID"),
        (Patient("7", "HOSPITAL", ""), "no birth date to compare"),
    ],
)
def test_whatever_differs_or_cannot_be_compared_is_another_patient(candidate: Patient, reason: str) -> None:
    assert patient_difference(candidate, ADA) == reason


def test_two_without_an_identifier_are_never_the_same() -> None:
    assert patient_difference(Patient("", "", "19500101"), Patient("", "", "19500101"))


def test_a_missing_birth_date_may_be_allowed_where_the_issuers_are_equal() -> None:
    assert not patient_difference(Patient("7", "HOSPITAL"), ADA, allow_missing_birth_date=True)
    assert patient_difference(Patient("7"), ADA, allow_missing_birth_date=True)
    assert patient_difference(Patient("7", "HOSPITAL", "19500102"), ADA, allow_missing_birth_date=True)


def test_no_identity_shows_where_an_entry_is_printed() -> None:
    assert "1950" not in repr((study(1, "20250101"), CURRENT, StudyQuery(ADA, date(2020, 1, 1), date(2026, 1, 1))))


def test_the_newest_come_first_and_every_other_one_has_its_reason() -> None:
    other = Patient("7", "HOSPITAL", "19700101")
    listed = [
        study(1, "20240101"),
        study(2, "20250101"),
        study(3, "20250601", other),
        study(4, "20150101"),
        study(5, "20260102"),
        study(6, ""),
        study(9, "20250101"),
        StudyEntry(UID("1.2.10"), ADA, "20250101", modalities=("MR",)),
        study(2, "20250101"),
    ]
    usable, refusals = usable_studies(listed, CURRENT, RULE)
    assert [study.study_instance_uid for study in usable] == ["1.2.2", "1.2.1"]
    assert {refusal.study_instance_uid: refusal.reason for refusal in refusals} == {
        "1.2.3": "another birth date",
        "1.2.4": "too old",
        "1.2.5": "not surely earlier",
        "1.2.6": "no Study Date",
        "1.2.9": "the study itself",
        "1.2.10": "another modality",
    }
    assert [refusal.study_instance_uid for refusal in refusals if refusal.other_patient] == ["1.2.3"]


@pytest.mark.parametrize(("time", "earlier"), [("115959", True), ("120000", False), ("130000", False), ("", False)])
def test_a_study_of_the_same_day_is_a_prior_only_if_its_time_says_so(time: str, *, earlier: bool) -> None:
    usable, _ = usable_studies([study(1, "20260101", study_time=time)], CURRENT, RULE)
    assert bool(usable) is earlier


def test_of_ten_thousand_studies_the_newest_fifty_stay() -> None:
    days = [f"{2021 + number % 5}{number // 5 % 12 + 1:02d}{number % 28 + 1:02d}" for number in range(10_000)]
    usable, refusals = usable_studies((study(10 + number, day) for number, day in enumerate(days)), CURRENT, RULE)
    assert [study.study_date for study in usable] == sorted((day for day in days), reverse=True)[:50]
    assert len(usable) + len(refusals) == 10_000


@pytest.mark.parametrize(
    ("current", "reason"),
    [
        (StudyIdentity(UID("1.2"), Patient("", "", "19500101"), "20260101"), "Patient ID"),
        (StudyIdentity(UID("1.2"), Patient("7\\8", "", "19500101"), "20260101"), "Patient ID"),
        (StudyIdentity(UID("1.2"), Patient("7"), "20260101"), "birth date"),
        (StudyIdentity(UID("1.2"), ADA, ""), "Study Date"),
        (StudyIdentity(UID("1.2"), ADA, "2026-01-01"), "Study Date"),
    ],
)
def test_a_study_that_does_not_say_whose_or_when_it_is_has_no_priors(current: StudyIdentity, reason: str) -> None:
    query = study_query(current, RULE)
    assert isinstance(query, str)
    assert reason in query


ROUTES = """
[[route]]
name = "nodule"
handler = "lung_nodule"
companions = ["SR", "SEG"]

[route.priors]
from = "pacs"
modality = ["CT"]
body_part = ["CHEST"]
tags = { SeriesDescription = "!*SCOUT*" }
count = 3
"""
PEER = '[[peer]]\nname = "pacs"\nae_title = "PACS"\nhost = "10.0.0.1"\nport = 104\n'
WEB = '[[peer]]\nname = "pacs"\ndeliver = "dicomweb"\nretrieve = "dicomweb"\ndicomweb = "https://pacs/x"\n'


def configured(folder: Path, peer: str) -> Path:
    (folder / "routes.toml").write_text(ROUTES, encoding="utf-8")
    node = folder / "node.toml"
    node.write_text(peer, encoding="utf-8")
    return node


def test_a_route_names_the_archive_of_its_priors(tmp_path: Path) -> None:
    (route,) = load(configured(tmp_path, PEER)).routes
    assert route.priors == PriorRule("pacs", ("CT",), ("CHEST",), {"SeriesDescription": "!*SCOUT*"}, count=3)
    assert route.priors.timeout_s == 60
    assert not route.priors.allow_missing_birth_date


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        ("", "pacs"),
        (PEER + 'retrieve = "move"\n', "move_port"),
        (PEER + 'retrieve = "dicomweb"\n', "DICOMweb"),
        (PEER + 'dicomweb = "https://user:word@pacs/"\n', "dicomweb"),
        (PEER + 'user_env = "A"\npassword_env = "B"\ntoken_env = "C"\n', "not both"),
        (WEB.replace('retrieve = "dicomweb"', ""), "ae_title"),
        (WEB + 'confirm = "commitment"\n', "ae_title"),
        ('[[peer]]\nname = "pacs"\ndeliver = "orthanc"\northanc = "http://pacs:8042"\n', "by DIMSE"),
    ],
)
def test_an_archive_that_cannot_give_priors_is_said_at_start(tmp_path: Path, peer: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(configured(tmp_path, peer))


def test_an_archive_of_dicomweb_alone_needs_no_title(tmp_path: Path) -> None:
    assert load(configured(tmp_path, WEB)).peers[0].ae_title == ""


def series(number: int, modality: str = "CT", **values: object) -> SeriesEntry:
    return SeriesEntry(UID("1.2.1"), UID(f"1.2.1.{number}"), modality, **values)  # type: ignore[arg-type]


def numbers(entries: tuple[SeriesEntry, ...]) -> list[int]:
    return [int(entry.series_instance_uid.rpartition(".")[2]) for entry in entries]


def test_only_the_images_that_fit_and_their_companions_are_fetched() -> None:
    rule = PriorRule(
        "archive",
        modality=("CT",),
        body_part=("CHEST",),
        tags={"NumberOfSeriesRelatedInstances": ">=20", "SeriesDescription": "!*SCOUT*"},
        max_series=2,
    )
    listed = (
        series(1, body_part="CHEST", instance_count=40),
        series(2, body_part="CHEST", instance_count=300),
        series(3, body_part="HEAD", instance_count=300),
        series(4, body_part="CHEST", instance_count=2),
        series(5, description="Scout 512", instance_count=20),
        series(6, "SR", instance_count=1),
        series(7, "PR", instance_count=1),
        series(8, instance_count=120),
    )
    prior = study(1, "20250101")
    assert numbers(series_to_fetch(listed, prior, rule, companions=("SR", "SEG"))) == [2, 8, 6]
    assert series_to_fetch(listed[5:7], prior, rule, companions=("SR",)) == ()


def test_a_body_part_that_only_the_study_names_counts() -> None:
    listed = (series(1, instance_count=40),)
    assert series_to_fetch(listed, study(1, "20250101", description="CT Thorax"), RULE)
    assert not series_to_fetch(listed, study(1, "20250101", description="CT Kopf Schädel, brain"), RULE)
