"""A database whose rows name files of another folder is refused, on both kinds of databases."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import a_file, instance_ref
from support.rows import read

from ainode.node.domain import UID, DocumentKind, JobState
from ainode.node.errors import ConfigError
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.data_folder import refuse_another
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument, Outcome

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def with_document(engine: sa.Engine, data: Path) -> None:
    ledger, path = Ledger(engine), data / "documents" / "a" / "1.2.dcm"
    job = Job("a", UID("1.2"), "chest", "ct_tumor", {}, NOW, NOW, ())
    assert ledger.open(job)
    document = KeptDocument("a", instance_ref(a_file()), DocumentKind.STRUCTURED_REPORT, path, "ff")
    read(ledger, job, [document], Outcome(JobState.REPORTED, "", "", 1.0))


def with_instance(engine: sa.Engine, data: Path) -> None:
    path = data / "spool" / "kept" / "1.2" / "1.2.3-00.dcm"
    syntax = UID("1.2.840.10008.1.2.1")
    Catalog(engine).index([StoredInstance(instance_ref(a_file()), syntax, "00", 100, path, "CT1", NOW)])


@pytest.mark.parametrize("fill", [with_document, with_instance])
def test_a_database_is_of_the_folder_that_its_rows_name_and_of_no_other(
    engine: sa.Engine, tmp_path: Path, fill: Callable[[sa.Engine, Path], None]
) -> None:
    data, other = tmp_path / "spool" / "data", tmp_path / "spool" / "data2"
    refuse_another(engine, other)  # an empty database is of any folder
    fill(engine, data)
    refuse_another(engine, data)
    with pytest.raises(ConfigError, match=f"the files of the database lie in {data}, and not in {other}"):
        refuse_another(engine, other)


def test_a_path_that_leads_into_the_folder_by_a_link_is_of_the_folder(engine: sa.Engine, tmp_path: Path) -> None:
    data, former = tmp_path / "data", tmp_path / "former"
    with_document(engine, former)
    data.mkdir()
    former.symlink_to(data)
    refuse_another(engine, data)
    refuse_another(engine, former)
