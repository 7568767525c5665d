from datetime import date
from pathlib import Path

import pytest

from ainode.node.archive.search import Patient, SeriesEntry, StudyEntry, StudyQuery
from ainode.node.domain import (
    UID,
)
from ainode.node.errors import ConfigError
from ainode.node.priors.rules import Current, difference, query, relevant, wanted
from ainode.node.routes import PriorRule
from ainode.node.settings import load

ADA = Patient("7", "HOSPITAL", "19500101")
CURRENT = Current(UID("1.2.9"), ADA, "20260101", "120000")
RULE = PriorRule("archive", modality=("CT",), body_part=("CHEST",))


def study(number: int, day: str, patient: Patient = ADA, **values: object) -> StudyEntry:
    return StudyEntry(UID(f"1.2.{number}"), patient, day, modalities=("CT",), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "why"),
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
def test_whatever_differs_or_cannot_be_compared_is_another_patient(found: Patient, why: str) -> None:
    assert difference(found, ADA) == why


def test_two_without_an_identifier_are_never_the_same() -> None:
    assert difference(Patient("", "", "19500101"), Patient("", "", "19500101"))


def test_a_missing_birth_date_may_be_allowed_where_the_issuers_are_equal() -> None:
    assert not difference(Patient("7", "HOSPITAL"), ADA, allow_missing_birth_date=True)
    assert difference(Patient("7"), ADA, allow_missing_birth_date=True)
    assert difference(Patient("7", "HOSPITAL", "19500102"), ADA, allow_missing_birth_date=True)


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
    chosen, refused = relevant(listed, CURRENT, RULE)
    assert [one.study_instance_uid for one in chosen] == ["1.2.2", "1.2.1"]
    assert {one.study_instance_uid: one.reason for one in refused} == {
        "1.2.3": "another birth date",
        "1.2.4": "too old",
        "1.2.5": "not surely earlier",
        "1.2.6": "no Study Date",
        "1.2.9": "the study itself",
        "1.2.10": "another modality",
    }
    assert [one.study_instance_uid for one in refused if one.other_patient] == ["1.2.3"]


@pytest.mark.parametrize(("time", "earlier"), [("115959", True), ("120000", False), ("130000", False), ("", False)])
def test_a_study_of_the_same_day_is_a_prior_only_if_its_time_says_so(time: str, *, earlier: bool) -> None:
    chosen, _ = relevant([study(1, "20260101", study_time=time)], CURRENT, RULE)
    assert bool(chosen) is earlier


def test_of_ten_thousand_studies_the_newest_fifty_stay() -> None:
    days = [f"{2021 + number % 5}{number // 5 % 12 + 1:02d}{number % 28 + 1:02d}" for number in range(10_000)]
    chosen, refused = relevant((study(10 + number, day) for number, day in enumerate(days)), CURRENT, RULE)
    assert [one.study_date for one in chosen] == sorted((day for day in days), reverse=True)[:50]
    assert len(chosen) + len(refused) == 10_000


@pytest.mark.parametrize(
    ("current", "why"),
    [
        (Current(UID("1.2"), Patient("", "", "19500101"), "20260101"), "Patient ID"),
        (Current(UID("1.2"), Patient("7\\8", "", "19500101"), "20260101"), "Patient ID"),
        (Current(UID("1.2"), Patient("7"), "20260101"), "birth date"),
        (Current(UID("1.2"), ADA, ""), "Study Date"),
        (Current(UID("1.2"), ADA, "2026-01-01"), "Study Date"),
    ],
)
def test_a_study_that_does_not_say_whose_or_when_it_is_has_no_priors(current: Current, why: str) -> None:
    asked = query(current, RULE)
    assert isinstance(asked, str)
    assert why in asked


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
    ("peer", "said"),
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
def test_an_archive_that_cannot_give_priors_is_said_at_start(tmp_path: Path, peer: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(configured(tmp_path, peer))


def test_an_archive_of_dicomweb_alone_needs_no_title(tmp_path: Path) -> None:
    assert load(configured(tmp_path, WEB)).peers[0].ae_title == ""


def series(number: int, modality: str = "CT", **values: object) -> SeriesEntry:
    return SeriesEntry(UID("1.2.1"), UID(f"1.2.1.{number}"), modality, **values)  # type: ignore[arg-type]


def numbers(found: tuple[SeriesEntry, ...]) -> list[int]:
    return [int(one.series_instance_uid.rpartition(".")[2]) for one in found]


def test_only_the_images_that_fit_and_their_companions_are_fetched() -> None:
    rule = PriorRule(
        "archive",
        modality=("CT",),
        body_part=("CHEST",),
        tags={"NumberOfSeriesRelatedInstances": ">=20", "SeriesDescription": "!*SCOUT*"},
        max_series=2,
    )
    listed = (
        series(1, body_part="CHEST", instances=40),
        series(2, body_part="CHEST", instances=300),
        series(3, body_part="HEAD", instances=300),
        series(4, body_part="CHEST", instances=2),
        series(5, description="Scout 512", instances=20),
        series(6, "SR", instances=1),
        series(7, "PR", instances=1),
        series(8, instances=120),
    )
    there = study(1, "20250101")
    assert numbers(wanted(listed, there, rule, companions=("SR", "SEG"))) == [2, 8, 6]
    assert wanted(listed[5:7], there, rule, companions=("SR",)) == ()


def test_a_body_part_that_only_the_study_names_counts() -> None:
    listed = (series(1, instances=40),)
    assert wanted(listed, study(1, "20250101", description="CT Thorax"), RULE)
    assert not wanted(listed, study(1, "20250101", description="CT Kopf Schädel, brain"), RULE)
