from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.databases import migrated

from ainode.node.domain import UID, InstanceRef
from ainode.node.keeping.catalog import Catalog, StoredInstance

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STORED = StoredInstance(
    InstanceRef(UID("1"), UID("1.1"), UID("1.2"), UID("1.99999")), UID("1.2.840"), "ff", 1, Path("x"), "A", NOW
)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    engine = migrated(url)
    yield Catalog(engine)
    engine.dispose()


def test_more_uids_than_a_statement_takes_are_looked_up_in_parts(catalog: Catalog) -> None:
    catalog.index([STORED])
    uids = [UID(f"1.{number}") for number in range(100_000)]
    assert catalog.existing(uids) == {"1.99999"}
    assert catalog.versions(uids).keys() == {("1", "1.99999")}
    assert catalog.unrouted([UID("1"), *uids]) == ("1",)


def test_a_study_waits_for_routing_until_the_content_that_it_has_was_routed(catalog: Catalog) -> None:
    catalog.index([STORED])
    assert catalog.unrouted() == ("1",)
    content = catalog.content(UID("1"))
    catalog.index([replace(STORED, sha256="ee")])
    catalog.mark_routed(UID("1"), content=content, explanation=[])
    assert not catalog.is_routed(UID("1"))
    catalog.mark_routed(UID("1"), content=catalog.content(UID("1")), explanation=[])
    assert catalog.is_routed(UID("1"))
    catalog.index([replace(STORED, sha256="ee")])
    assert catalog.unrouted() == ()


def test_the_same_bytes_again_may_mend_a_study_with_a_problem(catalog: Catalog) -> None:
    catalog.index([STORED])
    catalog.note_problem(UID("1"), "gone")
    catalog.mark_routed(UID("1"), content=catalog.content(UID("1")), explanation=[])
    assert (catalog.is_routed(UID("1")), catalog.problems()) == (True, {"1": "gone"})
    catalog.index([STORED])
    assert catalog.unrouted() == ("1",)
    catalog.note_problem(UID("1"), "")
    assert catalog.problems(UID("1")) == {}


def test_what_keeps_a_study_from_being_routed_stands_until_the_study_is_routed(catalog: Catalog) -> None:
    catalog.index([STORED])
    catalog.note_fault(UID("1"), "route 'a': it raised")
    assert (catalog.problems(), catalog.problem(UID("1"))) == ({"1": "route 'a': it raised"}, "")
    catalog.mark_routed(UID("1"), content=catalog.content(UID("1")), explanation=[])
    assert catalog.problems() == {}
