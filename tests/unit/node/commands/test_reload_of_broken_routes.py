"""What `ainode reload` says of routes that the node took up and that cannot read."""

from datetime import UTC, datetime
from pathlib import Path

from support.described import DESCRIPTION, write_model

from ainode.node.commands.reloading import words_of
from ainode.node.diagnosis.checks import route_lines
from ainode.node.domain import SELF_TEST_PEER, UID, DocumentKind, InstanceRef, JobState
from ainode.node.keeping import database
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, KeptDocument
from ainode.node.keeping.records import Outcome as ReadingOutcome
from ainode.node.settings import load
from ainode.node.starting.reload import Outcome

ROUTE = """[[route]]
name = "{name}"
handler = "{name}"
modality = ["DX"]
destinations = []
"""


def test_a_reload_names_a_body_part_of_a_route_that_its_model_never_reads(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network: nothing opens the file")
    write_model(tmp_path / "models", "bright", tmp_path / "net.onnx")
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text(f'{ROUTE.format(name="bright")}body_part = ["ABDOMEN", "CHEST"]\n')
    settings = load(config)
    words, status = words_of(Outcome(datetime.now(UTC), (), ()), settings)
    unread = "it takes ABDOMEN, which its model refuses: [takes] of bright has DX and CHEST"
    assert (status, words.splitlines()[-1]) == (0, f"route bright: {unread}")
    assert next(route_lines(settings))[2].endswith(unread)


def test_a_reload_names_the_routes_that_cannot_read_and_why(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network: nothing opens the file")
    write_model(tmp_path / "models", "right", tmp_path / "net.onnx")
    write_model(tmp_path / "models", "wrong", tmp_path / "net.onnx", DESCRIPTION.replace("816094009", "816094008"))
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("".join(ROUTE.format(name=name) for name in ("right", "wrong")))
    words, status = words_of(Outcome(datetime.now(UTC), (), ("[[route]] wrong: new",)), load(config))
    change, summary, *broken = words.splitlines()
    assert (status, change) == (0, "[[route]] wrong: new")
    assert summary == "the node works with 2 routes and 0 peers, but 1 of the routes cannot read:"
    assert broken[0].startswith("route wrong is not ready: ")
    assert "this is no identifier of SNOMED CT" in words
    assert "route right" not in words


def test_a_reload_without_a_route_says_how_many_of_its_reports_stay_in_archives(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    settings, now = load(config), datetime.now(UTC)
    engine = database.connect(settings.database_url)
    database.migrate(engine)
    ledger = Ledger(engine)
    sent = {"coverage": ("pacs", "vna"), "waiting": ("pacs",), "tested": (SELF_TEST_PEER,)}
    for number, (route, destinations) in enumerate(sent.items()):
        study = UID(f"1.2.{number}")
        job = Job(route, study, route, "any", {}, now, now, destinations)
        assert ledger.open(job)
        kinds = DocumentKind.STRUCTURED_REPORT, DocumentKind.SECONDARY_CAPTURE
        refs = [InstanceRef(study, UID("1.3"), UID("1.4"), UID(f"1.5.{number}.{place}")) for place in range(2)]
        kept = [KeptDocument(job.id, ref, kind, Path("x"), "ff") for ref, kind in zip(refs, kinds, strict=True)]
        ledger.move(job.id, JobState.READING, at=now)
        assert ledger.report(job, kept, ReadingOutcome(JobState.REPORTED, "", "", 1.0, {}, now))
        for delivery in ledger.deliveries(job.id) if route != "waiting" else ():
            ledger.outbox.sent(delivery, status=0, comment="", at=now)
    engine.dispose()
    changes = *(f"[[route]] {name}: gone" for name in sent), "[[peer]] coverage: gone"
    words, status = words_of(Outcome(now, (), changes), settings)
    stays = "1 report that it sent stays in the archives; `ainode jobs --route coverage` lists them"
    assert (status, words.splitlines()[4:-1]) == (0, [f"route coverage is gone: {stays}"])
