import json
import secrets
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from support import engine_tables
from support.databases import migrated
from support.migrations import assert_current, migrate_and_kill
from support.processes import exit_codes, is_killed

from ainode.node.domain import UID
from ainode.node.errors import ConfigError, DatabaseUnavailable
from ainode.node.identity import content_hash
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.schema import metadata, senders


def test_a_kill_after_any_statement_of_the_first_start_prevents_no_later_start(tmp_path: Path) -> None:
    statement, is_at_end = 0, False
    while not is_at_end:
        statement += 1
        address = f"sqlite:///{tmp_path / f'{statement}.sqlite'}"
        is_at_end = not is_killed(migrate_and_kill, address, statement)
        assert_current(address)
    assert statement > len(metadata.tables)


def test_a_kill_after_any_statement_of_an_upgrade_prevents_no_later_start(tmp_path: Path) -> None:
    old = tmp_path / "old.sqlite"
    engine = database.connect(f"sqlite:///{old}")
    migrate_to(engine, "0001")
    engine.dispose()
    statement, is_at_end = 0, False
    while not is_at_end:
        statement += 1
        path = tmp_path / f"{statement}.sqlite"
        path.write_bytes(old.read_bytes())
        is_at_end = not is_killed(migrate_and_kill, f"sqlite:///{path}", statement)
        assert_current(f"sqlite:///{path}")
    assert statement > 10


@pytest.mark.parametrize("before", ["", "0001"])
def test_a_kill_in_the_middle_of_the_tables_of_postgresql_leaves_what_stood_before(
    empty_postgresql: str, before: str
) -> None:
    engine = database.connect(empty_postgresql)
    statement, is_at_end = 1, False
    while not is_at_end:
        statement += 7
        if before:
            migrate_to(engine, before)
        is_at_end = not is_killed(migrate_and_kill, empty_postgresql, statement)
        assert is_at_end or database.revision(engine) == (before or None)
        assert_current(empty_postgresql)
        with engine.begin() as connection:
            metadata.drop_all(connection)
            database._version.drop(connection)
    assert statement > 20
    engine.dispose()


@pytest.mark.long
def test_a_kill_while_the_engine_makes_its_own_tables_prevents_no_later_start(
    postgresql_of: Callable[[], str], tmp_path: Path
) -> None:
    for address_of in (lambda: f"sqlite:///{tmp_path / secrets.token_hex(4)}.sqlite", postgresql_of):
        is_at_end, statement = False, 1
        while not is_at_end:
            url = address_of()
            is_at_end = engine_tables.made(url, killed_after=statement)
            assert engine_tables.made(url), statement
            statement += 25
        assert statement > 100


def test_tables_that_another_program_holds_are_named_to_the_operator_and_migrated_afterwards(url: str) -> None:
    engine, other = database.connect(url), sa.create_engine(url)
    sa.event.listen(engine, "connect", _do_not_wait)
    migrate_to(engine, "0001")
    with other.connect() as connection:
        if other.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.execute(sa.text("INSERT INTO senders VALUES ('A', '[]')"))
        connection.execute(sa.text("SELECT * FROM jobs"))
        with pytest.raises(DatabaseUnavailable, match=r"another program holds the tables .* pg_stat_activity"):
            database.migrate(engine, 0.1)
    database.migrate(engine)
    assert database.revision(engine) == database.HEAD
    engine.dispose()
    other.dispose()


def _do_not_wait(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA busy_timeout=100")


def test_a_connection_to_a_postgresql_that_is_cut_off_ends_within_a_minute(empty_postgresql: str) -> None:
    engine = database.connect(f"{empty_postgresql}&keepalives_count=2")
    with engine.connect() as connection:
        parameters = connection.connection.dbapi_connection.info.get_parameters()  # type: ignore[union-attr]
    engine.dispose()
    names = ("connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
    assert [parameters[name] for name in names] == ["10", "20", "5", "2", "35000"]
    assert database.connection_arguments("sqlite:///catalog.sqlite") == {}


def migrate_to(engine: sa.Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_what_an_earlier_version_left_of_a_first_start_is_made_whole(url: str) -> None:
    for tables in ([senders], metadata.sorted_tables, [*metadata.sorted_tables, database._version]):
        engine = database.connect(url)
        with engine.begin() as connection:
            metadata.drop_all(connection)
            database._version.drop(connection, checkfirst=True)
            for table in tables:
                table.create(connection)
        engine.dispose()
        assert_current(url)


def test_rows_without_a_revision_are_refused_and_stay(url: str) -> None:
    engine = migrated(url)
    row = {"ae_title": "A", "history": "[]"}
    with engine.begin() as connection:
        connection.execute(sa.insert(senders).values(row))
        connection.execute(sa.delete(database._version))
    with pytest.raises(ConfigError, match="holds senders, and no revision"):
        database.migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(senders)).scalar() == 1
    engine.dispose()


def test_nodes_that_start_at_once_on_an_empty_server_all_find_its_tables(empty_postgresql: str) -> None:
    assert exit_codes(assert_current, empty_postgresql, count=4) == [0] * 4


@pytest.mark.parametrize("damage", [b"no database" * 1000, None])
def test_a_damaged_file_is_refused_at_the_start_with_what_to_do(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "catalog.sqlite"
    assert_current(f"sqlite:///{path}")
    content = path.read_bytes()
    path.write_bytes(damage or content[:1024] + Random(0).randbytes(len(content) - 1024))
    engine = database.connect(f"sqlite:///{path}")
    with pytest.raises(ConfigError, match=r"catalog\.sqlite is damaged .*move it away.*rebuilt from the spool"):
        database.migrate(engine)
    engine.dispose()


def test_the_migration_of_a_routed_study_finds_it_routed_and_a_changed_study_not(tmp_path: Path) -> None:
    engine = database.connect(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    migrate_to(engine, "0005")
    with engine.begin() as connection:
        for study, digest in (("1", content_hash({UID("1.1"): "ff"})), ("2", "other"), ("3", "")):
            values = {"study": study, "instance": f"{study}.1", "digest": digest, "now": str(datetime.now(UTC))}
            connection.execute(
                sa.text("INSERT INTO studies VALUES (:study, :now, :now, :digest, '')"),
                values,
            )
            connection.execute(
                sa.text("INSERT INTO instances VALUES (:study, '1', '1', :instance, '1', 'ff', 1, 'x', 'A', :now)"),
                values,
            )
    database.migrate(engine)
    assert Catalog(engine).unrouted() == ("2", "3")
    assert Catalog(engine).is_routed(UID("1"))
    engine.dispose()


def test_the_words_of_headers_leave_what_an_earlier_version_kept_and_codes_and_reasons_stay(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    engine = database.connect(f"sqlite:///{path}")
    migrate_to(engine, "0008")
    found = {
        "Modality": "CT",
        "ImageType": "ORIGINAL\\PRIMARY, DERIVED\\PRIMARY",
        "Rows": "512 x 512",
        "header": "No such file (instance 1.2.3)",
        "number of images that fit": "1, multi-frame of 40 frames",
        "AccessionNumber": "URSULA-4711",
        "SeriesDescription": "Ursula, lung",
        "BodyPartExamined": "CHEST (BodyPartExamined: CHEST Ursula)",
        "ManufacturerModelName": "Ursula 16",
    }
    checks = [
        {"attribute": attribute, "expected": "x", "found": text, "passed": True} for attribute, text in found.items()
    ]
    explanation = json.dumps([{"route": "chest", "series_instance_uid": "1.2", "checks": checks}])
    study = {"study_instance_uid": "1.2.3", "first_received_at": datetime(2026, 1, 1, tzinfo=UTC)}
    job = dict.fromkeys(("study_instance_uid", "route", "handler", "state", "content", "destinations"), "")
    times = dict.fromkeys(("created_at", "queued_at"), datetime(2026, 1, 1, tzinfo=UTC))
    reason = "series 1.2: 2 acquisitions, of which Series Description is Ursula and Urs: too few"
    with engine.begin() as connection:
        row = study | {"last_received_at": datetime(2026, 1, 1, tzinfo=UTC), "explanation": explanation}
        connection.execute(sa.insert(metadata.tables["studies"]).values(row))
        connection.execute(
            sa.insert(metadata.tables["jobs"]).values(job | times | {"id": "a", "priority": 1, "reason": reason})
        )
    database.migrate(engine)
    ((decision),) = Catalog(engine).explanation(UID("1.2.3"))
    kept = {check["attribute"]: check["found"] for check in decision["checks"]}
    withheld = {attribute for attribute, text in kept.items() if text == "a value that is not kept"}
    assert withheld == {"AccessionNumber", "SeriesDescription", "BodyPartExamined", "ManufacturerModelName"}
    assert all(kept[attribute] == found[attribute] for attribute in found.keys() - withheld)
    with engine.connect() as connection:
        (reason,) = connection.execute(sa.select(metadata.tables["jobs"].c.reason)).scalars()
    assert reason == "series 1.2: 2 acquisitions, of which Series Description: the words are not kept"
    engine.dispose()
    assert b"Ursula" not in path.read_bytes()


def test_a_job_of_an_earlier_version_is_of_a_live_route_where_it_was_sent_or_withheld_and_else_nobody_knows(
    url: str,
) -> None:
    engine = database.connect(url)
    migrate_to(engine, "0022")
    texts = dict.fromkeys(("study_instance_uid", "route", "handler", "state", "content"), "")
    times = dict.fromkeys(("created_at", "queued_at"), datetime(2026, 1, 1, tzinfo=UTC))
    with engine.begin() as connection:
        for name, destinations, withheld in (("sent", '["pacs"]', ""), ("withheld", "[]", "why"), ("unsent", "[]", "")):
            values = {"id": name, "priority": 1, "destinations": destinations, "withheld": withheld}
            connection.execute(sa.insert(metadata.tables["jobs"]).values(texts | times | values))
    database.migrate(engine)
    with engine.connect() as connection:
        modes = {row.id: row.mode for row in connection.execute(sa.text("SELECT id, mode FROM jobs"))}
    assert modes == {"sent": "live", "withheld": "live", "unsent": ""}
    engine.dispose()
