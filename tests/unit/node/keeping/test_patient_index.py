"""The one table with names in clear, and what pages show of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.databases import migrated

from ainode.node.domain import UID
from ainode.node.keeping.patient_index import Labels, Naming, PatientIndex, initials, matches, readable_name
from ainode.node.keeping.schema import patient_index

STUDY = UID("1.2.3")
LABELS = Labels("Müller^Anna Maria^^Dr.", "4711", "A-17", "Thorax nativ", "20260301", "CT")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = migrated(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield made
    made.dispose()


def found(engine: sa.Engine, text: str) -> bool:
    with engine.connect() as connection:
        return connection.execute(sa.select(patient_index).where(matches(text))).first() is not None


def content(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        return repr(connection.execute(sa.select(patient_index)).all())


def test_where_names_are_hidden_no_name_is_held_and_the_accession_number_is_found_but_not_shown(
    engine: sa.Engine,
) -> None:
    index = PatientIndex(engine, Naming.HIDDEN)
    index.write(STUDY, LABELS)
    assert not any(word in content(engine) for word in ("Müller", "Anna", "4711", "nativ"))
    assert index.shown([STUDY])[STUDY] == Labels(study_date="20260301", modalities="CT")
    assert found(engine, "a-17")
    assert not found(engine, "müller")


def test_a_header_with_a_nul_is_kept_without_it_in_either_database(url: str) -> None:
    engine = migrated(url)
    index = PatientIndex(engine, Naming.FULL)
    index.write(STUDY, Labels("Roe^\0Jane\0", accession_number="\0"))
    assert index.shown([STUDY])[STUDY] == Labels("Roe, Jane")
    assert found(engine, "ja\0ne")
    engine.dispose()


def test_initials_are_shown_and_the_whole_name_is_found(engine: sa.Engine) -> None:
    index = PatientIndex(engine, Naming.INITIALS)
    index.write(STUDY, LABELS)
    shown = index.shown([STUDY])[STUDY]
    assert (shown.name, shown.patient_id, shown.description) == ("M. A.", "", "")
    assert found(engine, "anna MÜLLER")


def test_a_full_name_is_shown_as_people_write_it(engine: sa.Engine) -> None:
    index = PatientIndex(engine, Naming.FULL)
    index.write(STUDY, LABELS)
    assert index.shown([STUDY])[STUDY].name == "Müller, Anna Maria, Dr."
    assert index.shown([UID("9.9")]) == {}


def test_a_stricter_configuration_removes_what_an_earlier_one_kept(engine: sa.Engine) -> None:
    PatientIndex(engine, Naming.FULL).write(STUDY, LABELS)
    PatientIndex(engine, Naming.HIDDEN).restrict()
    assert "Müller" not in content(engine)
    assert found(engine, "A-17")
    PatientIndex(engine, None).restrict()
    assert content(engine) == "[]"


def test_without_pages_nothing_is_kept(engine: sa.Engine) -> None:
    PatientIndex(engine, None).write(STUDY, LABELS)
    assert content(engine) == "[]"


def test_the_labels_go_with_the_last_file_and_job_of_the_study(engine: sa.Engine) -> None:
    index = PatientIndex(engine, Naming.FULL)
    index.write(STUDY, LABELS)
    index.remove_orphans()
    assert content(engine) == "[]"


@pytest.mark.parametrize("text", ["%", "_", "a%17", "\\"])
def test_a_sign_of_the_database_is_a_sign_of_the_text(engine: sa.Engine, text: str) -> None:
    PatientIndex(engine, Naming.FULL).write(STUDY, LABELS)
    assert not found(engine, text)


@pytest.mark.parametrize(
    ("name", "readable", "short"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田 太郎; やまだ たろう)", "Y. T."),
        ("=山田^太郎", "山田, 太郎", "山. 太."),
        ("^Anna", "Anna", "A."),
        ("", "", ""),
        ("<b>x</b>", "<b>x</b>", "<."),
    ],
)
def test_a_name_of_several_groups_is_readable(name: str, readable: str, short: str) -> None:
    assert (readable_name(name), initials(name)) == (readable, short)
