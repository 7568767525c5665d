"""A backup of a node that runs, by the commands of config/README.md, and the node that is restored from it."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import program, storescp
from support.node import RunningNode, configured
from support.postgresql import PostgreSQL, postgresql_server
from support.servers import Storescp
from support.studies import WrittenStudy, statuses, written

from ainode.node.bench import full_catalog
from ainode.node.domain import UID, DeliveryState
from ainode.node.keeping.schema import metadata
from ainode.node.settings import Peer

JOBS = 1_000


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql_server() as started:
        yield started


def node_on(kind: str, folder: Path, archive: Storescp, server: PostgreSQL | None) -> RunningNode:
    peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=archive.port, confirm="none")
    url = server.create("ainode") if server else ""
    more = f'[database]\nurl = "{url}"' if kind == "postgresql" else ""
    node = configured(folder, peers=[peer], more=more)
    node.database = url
    return node


def back_up(node: RunningNode, backup: Path, server: PostgreSQL | None) -> None:
    """Do what config/README.md says: the database first, whose rows are written after the documents."""
    data = node.folder / "data"
    backup.mkdir()
    if server:
        dump = [server.binaries / "pg_dump", "--format=custom", f"--file={backup / 'ainode.dump'}"]
        subprocess.run([*dump, "-h", server.folder, "-U", "ainode", "ainode"], check=True)
    else:
        subprocess.run(
            [program("sqlite3"), data / "catalog.sqlite", f".backup '{backup / 'catalog.sqlite'}'"], check=True
        )
    for name in ("documents", "weights", "tokens"):
        if (data / name).exists():
            subprocess.run(["cp", "-a", data / name, backup], check=True)


def restore(node: RunningNode, backup: Path, server: PostgreSQL | None) -> None:
    data = node.folder / "data"
    data.rename(node.folder / "lost")
    data.mkdir(mode=0o700)
    for path in backup.iterdir():
        if path.name != "ainode.dump":
            subprocess.run(["cp", "-a", path, data], check=True)
    if server:
        client = ("-h", server.folder, "-U", "ainode")
        subprocess.run([server.binaries / "dropdb", "--force", *client, "ainode"], check=True)
        subprocess.run([server.binaries / "createdb", *client, "ainode"], check=True)
        command = [server.binaries / "pg_restore", *client, "--dbname=ainode", backup / "ainode.dump"]
        subprocess.run(command, check=True)


def counts(engine: sa.Engine) -> dict[str, int]:
    names = ("jobs", "answers", "documents", "deliveries", "job_events")
    with engine.connect() as connection:
        return {
            name: connection.execute(sa.select(sa.func.count()).select_from(metadata.tables[name])).scalar_one()
            for name in names
        }


def read_and_sent(node: RunningNode, study: WrittenStudy) -> int:
    """Send a study, wait until its documents have left, and return how many they are."""
    assert set(statuses(node, study.paths)) == {0}

    def is_sent() -> bool:
        jobs = node.ledger.jobs(study=UID(study.uid))
        deliveries = [one for job in jobs for one in node.ledger.deliveries(job.id)]
        return bool(deliveries) and all(one.state is DeliveryState.SENT for one in deliveries)

    node.until(is_sent, within_s=120)
    return sum(len(node.ledger.documents(job.id)) for job in node.ledger.jobs(study=UID(study.uid)))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_node_with_a_thousand_jobs_is_restored_from_a_backup_that_was_made_while_it_ran(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    program("sqlite3")
    postgresql = request.getfixturevalue("server") if kind == "postgresql" else None
    with storescp(tmp_path / "archive") as archive:
        node = node_on(kind, tmp_path / "node", archive, postgresql)
        before, after = written(tmp_path, "before"), written(tmp_path, "after")
        node.start()
        try:
            document_count = read_and_sent(node, before)
            full_catalog.fill(node.engine, JOBS, datetime(2026, 1, 1, tzinfo=UTC))
            back_up(node, tmp_path / "backup", postgresql)
            kept = counts(node.engine)
            assert kept["jobs"] > JOBS * 0.9
            jobs = [job.id for job in node.ledger.jobs()]
            read_and_sent(node, after)  # what came after the backup is lost with the disk
        finally:
            node.kill()
            node.engine.dispose()

        restore(node, tmp_path / "backup", postgresql)
        received = len(archive.files())
        node.start()
        try:
            assert counts(node.engine) == kept
            assert [job.id for job in node.ledger.jobs()] == jobs
            (job,) = node.ledger.jobs(study=UID(before.uid))
            documents = node.ledger.documents(job.id)
            assert len(documents) == document_count
            assert all(sha256(document.path.read_bytes()).hexdigest() == document.sha256 for document in documents)

            assert set(statuses(node, before.paths)) == {0}  # known: nothing is read or sent again
            read_and_sent(node, after)  # lost: read again, under the same UIDs
            assert len(node.ledger.jobs(study=UID(before.uid))) == 1
            assert len(archive.files()) == received
        finally:
            node.stop()
