"""A backup of a node that runs, by the commands of config/README.md, and the node that is restored from it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import program, storescp
from support.databases import migrated
from support.described import onnx_file, small_network, write_model
from support.node import ROOT, SPINE, RunningNode, configured, running
from support.postgresql import PostgreSQL, postgresql_server
from support.servers import Storescp
from support.studies import WrittenStudy, statuses, written

from ainode.node.bench import full_catalog
from ainode.node.domain import UID, DeliveryState
from ainode.node.encoding import headers
from ainode.node.keeping.catalog import Catalog, StoredInstance
from ainode.node.keeping.schema import metadata
from ainode.node.settings import Peer

JOBS = 1_000
README = (Path(__file__).parents[2] / "config" / "README.md").read_text(encoding="utf-8")
GUIDE = README.partition("## Retention and back-up\n")[2].partition("\n## ")[0]
OF_A_SITE = """
[[route]]
name = "bright"
handler = "bright"
modality = ["DX"]
body_part = ["CHEST"]
destinations = DESTINATIONS
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql_server() as started:
        yield started


def node_on(kind: str, folder: Path, archive: Storescp, server: PostgreSQL | None) -> RunningNode:
    peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=archive.port, confirm="none")
    url = server.create("ainode") if server else ""
    more = f'[database]\nurl = "{url}"' if kind == "postgresql" else ""
    node = configured(folder, peers=[peer], routes=SPINE + OF_A_SITE, more=more)
    write_model(folder / "data" / "models", "bright", onnx_file(small_network(), folder / "bright.onnx"))
    node.database = url
    return node


def typed(part: str, node: RunningNode, backup: Path, server: PostgreSQL | None) -> None:
    """Type the commands of a part of config/README.md about this node's database; `ainode` itself is started later."""
    section = GUIDE.partition("### Back up and restore\n")[2]
    lines = [line.strip() for line in section.partition(part)[2].partition("\n\n")[2].split("\n\n")[0].splitlines()]
    other = "SQLite" if server else "PostgreSQL"
    commands = [line for line in lines if not line.startswith("ainode ") and other not in line.partition("  #")[2]]
    assert len(commands) in {1, 2, 3}
    names = {"DATA": str(node.folder / "data"), "BACKUP": str(backup), "DATABASE": "ainode"}
    script = re.sub(r"\b(DATABASE|DATA|BACKUP)\b", lambda match: names[match[0]], "\n".join(commands))
    client = {"PGHOST": str(server.folder), "PGUSER": "ainode"} if server else {}
    path = os.pathsep.join([*([str(server.binaries)] if server else []), os.environ["PATH"]])
    subprocess.run(["bash", "-e", "-c", script], check=True, env={**os.environ, **client, "PATH": path}, umask=0o022)


def back_up(node: RunningNode, backup: Path, server: PostgreSQL | None) -> None:
    typed("While the node runs", node, backup, server)


def restore(node: RunningNode, backup: Path, server: PostgreSQL | None) -> None:
    if server:  # the database was lost, too
        drop = [server.binaries / "dropdb", "--force", "-h", server.folder, "-U", "ainode", "ainode"]
        subprocess.run(drop, check=True)
    typed("To restore", node, backup, server)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
            kept_files = files(node.folder / "data" / "models")
            assert all(f"`{path.name.partition('-')[0]}" in GUIDE for path in (node.folder / "data").iterdir())
            back_up(node, tmp_path / "backup", postgresql)
            (copy,) = [*(tmp_path / "backup").glob("catalog.sqlite"), *(tmp_path / "backup").glob("ainode.dump")]
            assert copy.stat().st_mode & 0o077 == 0
            kept = counts(node.engine)
            assert kept["jobs"] > JOBS * 0.9
            jobs = [job.id for job in node.ledger.jobs()]
            read_and_sent(node, after)  # what came after the backup is lost with the disk
        finally:
            node.kill()
            node.engine.dispose()

        restore(node, tmp_path / "backup", postgresql)
        assert files(node.folder / "data" / "models") == kept_files != {}
        received = len(archive.files())
        node.start()  # no node starts whose routes name a model that is not there
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


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_in_another_folder_is_refused_until_the_former_path_leads_there(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("server").create("moved") if kind == "postgresql" else ""
    node = configured(tmp_path / "node", more=f'[database]\nurl = "{url}"' if url else "")
    data, former = tmp_path / "node" / "data", tmp_path / "former"
    study = written(tmp_path, "kept")
    former.mkdir()
    data.mkdir(mode=0o700)
    engine = migrated(url or f"sqlite:///{data / 'catalog.sqlite'}")
    image = headers.instance(study.paths[0], sha256="")
    path = former / "spool" / "kept" / study.uid / "kept.dcm"
    received_at = datetime.now(UTC)
    Catalog(engine).index([StoredInstance(image.ref, UID("1.2.840.10008.1.2.1"), "00", 1, path, "CT1", received_at)])
    engine.dispose()
    reason = f"the files of the database lie in {former}, and not in {data}"
    environment = os.environ | {"PYTHONPATH": f"{ROOT / '.ns'}{os.pathsep}{ROOT / 'tests'}"}
    for words, exit_code in (
        (["serve"], 2),
        (["check"], 1),
        (["explain", study.uid], 2),
        (["replay", study.uid], 2),
        (["export", str(tmp_path / "copies"), study.uid], 2),
    ):
        command = [sys.executable, "-m", "ainode.node.commands.cli", *words, "--config", str(node.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, reason in done.stdout + done.stderr) == (exit_code, True), (words, done)
    former.rmdir()
    former.symlink_to(data)
    with running(node):
        assert "ready:" in node.log.read_text(encoding="utf-8")
