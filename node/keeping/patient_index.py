"""Whose studies these are: the only table with names in clear, for the pages and the search of the console.

`[console] patient` decides what the table holds and what pages show. A change of the configuration counts for the rows
of before, too: what may not be shown any more is removed at the next start.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from ainode.node.domain import SELF_TEST_MODALITY, SELF_TEST_PEER, UID
from ainode.node.keeping.database import chunks, insert
from ainode.node.keeping.schema import jobs, patient_index, studies
from ainode.node.settings import Settings

_MOST_STUDIES: Final = 50
"""of one patient, for one page"""
_LONGEST: Final = 320
"""PS3.5 6.2: a name has three groups of 64 characters, each of which may be several bytes"""


class Naming(StrEnum):
    """What pages show of a patient."""

    HIDDEN = "hidden"
    """no name, no Patient ID, no description, and the table does not hold them either; no accession number, though a
    search finds it"""
    INITIALS = "initials"
    """the initials and the accession number"""
    FULL = "full"


def naming(settings: Settings) -> Naming | None:
    """Return what pages show, None where there are no pages."""
    has_pages = settings.web.enabled and settings.console.enabled
    return Naming(settings.console.patient) if has_pages else None


@dataclass(frozen=True, slots=True)
class Labels:
    """How people name a study; the fields are columns of `patient_index`."""

    name: str = field(default="", repr=False)
    """Patient's Name as it stands in the header"""
    patient_id: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    description: str = field(default="", repr=False)
    """Study Description, else Series Description"""
    study_date: str = ""
    """YYYYMMDD"""
    modalities: str = ""
    is_synthetic: bool = False
    """whether the node made the study up, so that no patient is in it"""


class PatientIndex:
    """Writes and reads the labels of studies; each method is one transaction."""

    def __init__(self, engine: sa.Engine, naming: Naming | None) -> None:
        """Hold labels as `naming` allows; with None, no page is there to show them, and the table stays empty."""
        self._engine, self._naming = engine, naming

    def restrict(self) -> None:
        """Remove what an earlier configuration allowed, and this one does not."""
        with self._engine.begin() as connection:
            if self._naming is None:
                connection.execute(sa.delete(patient_index))
            elif self._naming is Naming.HIDDEN:
                sought = sa.func.lower(patient_index.c.accession_number)
                values = {"name": "", "patient_id": "", "description": "", "sought": sought}
                connection.execute(sa.update(patient_index).values(values))

    def write(self, study: UID, labels: Labels) -> None:
        """Keep the labels of a study; earlier labels of the study are replaced."""
        if self._naming is None:
            return
        if self._naming is Naming.HIDDEN:
            labels = replace(labels, name="", patient_id="", description="")
        row = {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in asdict(labels).items()}
        row |= {"sought": _sought(row["name"], row["patient_id"], row["accession_number"], row["description"])}
        statement = insert(self._engine, patient_index).values(study_instance_uid=study, **row)
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["study_instance_uid"], set_=row))

    def shown(self, study_uids: Iterable[UID]) -> Mapping[UID, Labels]:
        """Return the labels of studies as pages may show them: with "initials", name and Patient ID are shortened."""
        rows: dict[UID, Labels] = {}
        with self._engine.connect() as connection:
            for some in chunks(study_uids):
                query = sa.select(patient_index).where(patient_index.c.study_instance_uid.in_(some))
                rows |= {UID(row.study_instance_uid): self._labels(row) for row in connection.execute(query)}
        return rows

    def of_same_patient(self, study: UID) -> tuple[UID, ...]:
        """Return the other studies with the Patient ID and the name of a study, the newest first; none where hidden."""
        itself, other = patient_index.alias(), patient_index
        query = (
            sa.select(other.c.study_instance_uid)
            .join(itself, (itself.c.patient_id == other.c.patient_id) & (itself.c.name == other.c.name))
            .where(itself.c.study_instance_uid == study, other.c.study_instance_uid != study, other.c.patient_id != "")
            .order_by(other.c.study_date.desc(), other.c.study_instance_uid)
            .limit(_MOST_STUDIES)
        )
        with self._engine.connect() as connection:
            return tuple(map(UID, connection.execute(query).scalars()))

    def _labels(self, row: Any) -> Labels:  # noqa: ANN401
        labels = Labels(**{name: getattr(row, name) for name in Labels.__dataclass_fields__})
        if self._naming is Naming.FULL:
            return replace(labels, name=readable_name(labels.name))
        if self._naming is Naming.INITIALS:
            # An identifier of which a part is shown still finds the patient in a list.
            return replace(labels, name=initials(labels.name), patient_id="", description="")
        return replace(labels, name="", patient_id="", accession_number="", description="")

    def remove_orphans(self) -> None:
        """Remove the labels of studies of which the node has neither files nor jobs any more."""
        uid = patient_index.c.study_instance_uid
        absent = (uid.not_in(sa.select(table.c.study_instance_uid)) for table in (studies, jobs))
        with self._engine.begin() as connection:
            connection.execute(sa.delete(patient_index).where(*absent))


def matches(text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a row of `patient_index` has every word of a text in its labels."""
    words = _sought(text).split()
    return sa.and_(*(patient_index.c.sought.contains(word, autoescape=True) for word in words))


def made_up_studies() -> sa.CompoundSelect[tuple[str]]:
    """Return the query of the synthetic studies: of demonstrations, examples and self-tests.

    A node without pages has no labels of studies; of a self-test its job tells.
    """
    labeled = sa.select(patient_index.c.study_instance_uid).where(patient_index.c.is_synthetic)
    is_self_test = jobs.c.destinations == json.dumps([SELF_TEST_PEER])
    return sa.union(labeled, sa.select(jobs.c.study_instance_uid).where(is_self_test))


def self_tests() -> sa.Select[tuple[str]]:
    """Return the query of the studies that the node made up to test its way up to the routes."""
    is_self_test = patient_index.c.is_synthetic & (patient_index.c.modalities == SELF_TEST_MODALITY)
    return sa.select(patient_index.c.study_instance_uid).where(is_self_test)


def readable_name(name: str) -> str:
    """Return a Patient's Name as people write it: `Yamada, Tarou (山田 太郎)` for three groups (PS3.5 6.2.1.1)."""
    groups = [", ".join(filter(None, map(str.strip, group.split("^")))) for group in name.split("=")]
    first, *others = [group for group in groups if group] or [""]
    return f"{first} ({'; '.join(group.replace(', ', ' ') for group in others)})" if others else first


def initials(name: str) -> str:
    """Return the first letters of the family name and of the first given name, such as `Y. T.`."""
    first = next((group for group in name.split("=") if group.strip("^ ")), "")
    parts = [part.strip() for part in first.split("^")[:2]]
    return " ".join(f"{part[0].upper()}." for part in parts if part)


def _sought(*texts: str) -> str:
    """Return texts as a search compares them: without regard to case and to the marks between the parts of a name."""
    joined = " ".join(texts).translate(str.maketrans("^=,", "   "))
    return " ".join(joined.casefold().split())
