"""Which worker a node takes beside itself: one whose answers are those of the node, and no other."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from ainode.node.errors import DatabaseUnavailable
from ainode.node.keeping import database
from ainode.node.keeping.executors import ExecutorKind, Executors
from ainode.node.keeping.schema import executors as table
from ainode.node.routes import Route
from ainode.node.settings import DatabaseTable, NodeTable, Peer, Settings, Sources, load
from ainode.node.starting.joining import MARK_NAME, executor_of, is_shared, readiness_problems, worker_problems

ROUTES = (Route("chest", "reader"), Route("spine", "other"))


def settings_of(data: Path, url: str = "", host: str = "192.0.2.1") -> Settings:
    peer = Peer(name="archive", ae_title="ARCHIVE", host=host, port=104)
    return Settings(node=NodeTable(data=data), database=DatabaseTable(url=url), routes=ROUTES, peers=(peer,))


@pytest.fixture
def engine(empty_postgresql: str) -> Iterator[sa.Engine]:
    made = database.connect(empty_postgresql)
    yield made
    made.dispose()


@pytest.fixture
def node(engine: sa.Engine, empty_postgresql: str, tmp_path: Path) -> Settings:
    """The settings of a node that has started on the database."""
    settings = settings_of(tmp_path / "data", empty_postgresql)
    settings.data.mkdir()
    database.migrate(engine)
    Executors(engine).enter(executor_of(settings, ExecutorKind.NODE, ("reader", "other")), 60.0)
    return settings


def problems(settings: Settings, *handlers: str, name: str = "worker") -> str:
    return "\n".join(worker_problems(settings, handlers, name))


def change_terms(engine: sa.Engine, terms: Mapping[str, str]) -> None:
    """Have the node be another than it is."""
    newest = Executors(engine).node()
    assert newest
    with engine.begin() as connection:
        connection.execute(sa.delete(table))
    Executors(engine).enter(replace(newest, terms={**newest.terms, **terms}), 60.0)


def test_a_worker_with_the_configuration_of_the_node_is_taken(node: Settings) -> None:
    assert problems(node, "reader") == ""
    assert is_shared(node)


def test_a_worker_on_sqlite_is_refused(tmp_path: Path) -> None:
    assert "needs the PostgreSQL of the node" in problems(settings_of(tmp_path), "reader")
    assert not is_shared(settings_of(tmp_path))


def test_a_worker_waits_for_a_node_that_makes_the_tables_and_enters(
    engine: sa.Engine, empty_postgresql: str, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, empty_postgresql)
    with pytest.raises(DatabaseUnavailable, match="no node of this version has worked on the database"):
        problems(settings, "reader")
    database.migrate(engine)
    with pytest.raises(DatabaseUnavailable, match="no node of this version has worked on the database"):
        problems(settings, "reader")


def test_a_worker_that_is_older_than_the_tables_is_refused(engine: sa.Engine, node: Settings) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(database._version).values(version_num="9999"))
    assert "the tables are those of a newer version" in problems(node, "reader")


def test_a_handler_that_no_route_names_and_a_name_that_is_no_name_are_refused(node: Settings) -> None:
    assert "no route reads with 'unknown'; routes.toml names other, reader" in problems(node, "reader", "unknown")
    for name in ("../up", "", "a" * 65, "two words"):
        assert "is no name of a worker" in problems(node, "reader", name=name)


def test_another_data_folder_is_refused_also_under_the_same_path(node: Settings, tmp_path: Path) -> None:
    elsewhere = settings_of(tmp_path / "elsewhere", node.database.url)
    elsewhere.data.mkdir()
    text = problems(elsewhere, "reader")
    assert f"folder differs from that of the node 'ainode' on {platform.node()} ({elsewhere.data} here, " in text
    assert "mark differs" in text
    (node.data / MARK_NAME).write_text("ff" * 16)
    assert problems(node, "reader").startswith("mark differs")
    (node.data / MARK_NAME).unlink()
    assert problems(node, "reader").startswith("mark differs")
    assert not (node.data / MARK_NAME).exists()


@pytest.mark.parametrize(
    ("term", "sentence"),
    [
        ("version", "install the same version of ainode"),
        ("weights", "install the same version of ainode"),
        ("routes", "give this process the files of the node"),
        ("peers", "give this process the files of the node"),
        ("reader", "[reader] differs in what decides on answers"),
        ("node", "[node] differs in what documents say"),
    ],
)
def test_a_worker_whose_answers_could_differ_is_refused_with_what_differs(
    engine: sa.Engine, node: Settings, term: str, sentence: str
) -> None:
    change_terms(engine, {term: "another"})
    text = problems(node, "reader")
    assert text.startswith(f"{term} differs from that of the node")
    assert sentence in text


def test_what_is_of_one_process_alone_may_differ(node: Settings) -> None:
    own = node.model_copy(
        update={
            "node": node.node.model_copy(update={"port": 104, "bind": "192.0.2.7", "max_associations": 3}),
            "reader": node.reader.model_copy(update={"networks": Path("/elsewhere"), "device": "cpu", "idle_s": 5.0}),
        }
    )
    assert problems(own, "reader") == ""


def test_a_change_of_what_a_route_demands_makes_other_terms(node: Settings) -> None:
    changed = node.model_copy(update={"routes": (replace(ROUTES[0], min_instances=7), ROUTES[1])})
    assert problems(changed, "reader").startswith("routes differs")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_peer_on_the_machine_of_the_node_is_refused_on_another_machine(
    engine: sa.Engine, empty_postgresql: str, tmp_path: Path, host: str
) -> None:
    settings = settings_of(tmp_path, empty_postgresql, host=host)
    database.migrate(engine)
    node = executor_of(settings, ExecutorKind.NODE, ("reader",))
    Executors(engine).enter(node, 60.0)
    assert problems(settings, "reader") == ""
    Executors(engine).leave(node.id)
    Executors(engine).enter(replace(node, id="node:2", host="elsewhere"), 60.0)
    assert f"[[peer]] 'archive': {host} is this machine here, and elsewhere for the node" in problems(
        settings, "reader"
    )


def test_the_mark_of_a_data_folder_stays_and_each_start_is_another_executor(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    first, second = (executor_of(settings, ExecutorKind.NODE, ("b", "a", "a")) for _ in range(2))
    assert first.terms == second.terms
    assert first.id != second.id
    assert first.handlers == ("a", "b")


def test_a_time_without_beats_below_four_of_them_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[workers]\nbeat_s = 5.0\ndead_after_s = 19.0\n")
    with pytest.raises(Exception, match="less than four times beat_s"):
        load(tmp_path / "node.toml")


def test_a_machine_that_cannot_read_with_a_handler_or_lacks_a_secret_gets_no_work(tmp_path: Path) -> None:
    routes = (Route("good", "ainode.node.bench.immediate"), Route("bad", "ainode.node.bench.absent"))
    peer = Peer(
        name="web",
        deliver="dicomweb",
        retrieve="dicomweb",
        dicomweb="https://pacs.example",
        token_env="ABSENT_TOKEN",  # noqa: S106 - the name of a variable
    )
    settings = settings_of(tmp_path).model_copy(update={"routes": routes, "peers": (peer,)})
    origin = Sources(tmp_path / "node.toml", tmp_path / "routes.toml")
    problems_of_all = "\n".join(readiness_problems(settings, origin, ["ainode.node.bench.absent"]))
    assert "route bad: " in problems_of_all
    assert "the environment has no ABSENT_TOKEN" in problems_of_all
    alone = settings.model_copy(update={"peers": ()})
    assert list(readiness_problems(alone, origin, ["ainode.node.bench.immediate"])) == []
