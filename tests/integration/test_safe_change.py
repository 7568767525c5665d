"""A new version runs as a shadow, is compared, goes live by one command and back by another."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from support.answers import an_answer, put_answers
from support.databases import migrated
from support.syslog import events
from typer.testing import CliRunner

from ainode.node.commands.cli import app
from ainode.node.domain import UID, JobState
from ainode.node.errors import ConfigError
from ainode.node.keeping import database
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job, Outcome
from ainode.node.routes import RouteMode
from ainode.node.settings import load

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROUTES = """# of our department
[[route]]
name = "skin"              # the model of last year
handler = "support.handler"
modality = ["DX"]
destinations = ["pacs"]    # everything goes there

[[route]]
name = "skin next"
handler = "support.handler"
modality = ["DX"]
mode = "shadow"            # until it is compared
"""
PEERS = "".join(
    f'[[peer]]\nname = "{name}"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\nport = 4242\n'
    for name in ("pacs", "other")
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "site" / "node.toml"
    path.parent.mkdir()
    path.write_text(f'[node]\ndata = "{tmp_path / "data"}"\n{PEERS}', encoding="utf-8")
    path.with_name("routes.toml").write_text(ROUTES, encoding="utf-8")
    (tmp_path / "data").mkdir()
    engine = migrated(load(path).database_url)
    engine.dispose()
    return path


def answer(config: Path, count: int) -> None:
    """Have both routes answer so many studies; on the last, they differ."""
    engine = database.connect(load(config).database_url)
    for number in range(count):
        study = {"study_instance_uid": f"1.2.{number}"}
        first = an_answer(2 * number, NOW + timedelta(hours=number), 0.9, seconds=1.0, **study)
        second = 0.2 if number == count - 1 else 0.88
        shadow = {"route": "skin next", "version": "0.2.0", "seconds": 3.0, **study}
        put_answers(engine, [first])
        put_answers(engine, [an_answer(2 * number + 1, NOW + timedelta(hours=number), second, **shadow)])
    engine.dispose()


def ainode(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(config)])


def routes(config: Path) -> str:
    return config.with_name("routes.toml").read_text(encoding="utf-8")


def modes(config: Path) -> dict[str, tuple[RouteMode, tuple[str, ...]]]:
    return {route.name: (route.mode, route.live_destinations) for route in load(config).routes}


def kept(config: Path) -> list[Path]:
    return sorted(config.parent.glob("routes.toml.before-*"))


def test_a_comparison_names_agreement_differences_refusals_seconds_and_studies(config: Path) -> None:
    answer(config, 25)
    lines = ainode(config, "compare", "skin", "skin next").output.splitlines()
    assert lines[:3] == [
        "skin (live) and skin next (shadow): 25 studies that both answered",
        "skin (live): skin_lesion 0.1.0",
        "skin next (shadow): skin_lesion 0.2.0",
    ]
    assert lines[3] == "same answer: 96.0 % (80.5 to 99.3 %), 1 differs"
    assert "probability of skin next minus that of skin: median -0.020, from -0.700 to -0.020 on 25 studies" in lines
    assert "seconds on what both read: skin 1.0 (1.0 to 1.0), skin next 3.0 (3.0 to 3.0)" in lines
    assert lines[-2].split() == ["study", "skin", "(live)", "skin", "next", "(shadow)"]
    assert lines[-1].split() == ["1.2.24", "present", "0.9000", "absent", "0.2000"]
    assert "7 studies that both" in ainode(config, "compare", "skin", "skin next", "--last", "7").output


def test_an_unknown_route_is_told_those_that_there_are(config: Path) -> None:
    error = ainode(config, "compare", "skin", "bone").exception
    assert isinstance(error, ConfigError)
    assert "no route 'bone'; it has skin, skin next" in str(error)


def test_too_few_studies_change_nothing_unless_a_person_insists(config: Path) -> None:
    answer(config, 19)
    done = ainode(config, "route", "live", "skin next")
    assert isinstance(done.exception, ConfigError)
    assert "both routes read 19 of the same studies, and 20 are needed" in str(done.exception)
    assert (routes(config), kept(config)) == (ROUTES, [])
    assert ainode(config, "route", "live", "skin next", "--anyway").exit_code == 0
    assert modes(config)["skin next"] == (RouteMode.LIVE, ("pacs",))


def test_a_shadow_goes_live_with_the_destinations_of_the_live_route_and_back_byte_for_byte(config: Path) -> None:
    answer(config, 20)
    done = ainode(config, "route", "live", "skin next")
    assert (done.exit_code, "skin next is live, skin is a shadow" in done.output) == (0, True), done.exception
    assert 'destinations = ["pacs"] is that of skin, since skin next stated none' in done.output
    assert modes(config) == {"skin": (RouteMode.SHADOW, ()), "skin next": (RouteMode.LIVE, ("pacs",))}
    assert "# the model of last year" in routes(config)
    assert 'mode = "live"            # until it is compared' in routes(config)
    (former,) = kept(config)
    assert former.read_text(encoding="utf-8") == ROUTES
    assert ainode(config, "route", "back", "skin next").exit_code == 0
    assert (routes(config), kept(config)) == (ROUTES, [])
    recorded = [(event.subjects, event.details) for event in events(load(config).data / "audit")]
    assert recorded == [
        (["urn:ainode:route:skin next"], {"Alert Description": words, "in the place of": "skin"})
        for words in ("went live", "went back to shadow")
    ]


def test_what_was_changed_since_stays_where_a_route_goes_back(config: Path) -> None:
    answer(config, 20)
    assert ainode(config, "route", "live", "skin next").exit_code == 0
    changed = routes(config).replace("# of our department", "# of two departments").replace('["DX"]', '["DX", "CR"]')
    config.with_name("routes.toml").write_text(changed, encoding="utf-8")
    done = ainode(config, "route", "back", "skin next")
    assert "what else was changed since stays" in done.output
    assert modes(config) == {"skin": (RouteMode.LIVE, ("pacs",)), "skin next": (RouteMode.SHADOW, ())}
    assert "# of two departments" in routes(config)
    assert routes(config).count('["DX", "CR"]') == 2


def test_the_way_back_says_that_no_route_is_live_where_the_former_one_was_removed_since(config: Path) -> None:
    answer(config, 20)
    config.write_text(config.read_text(encoding="utf-8") + '[self_test]\nroutes = ["skin next"]\n', encoding="utf-8")
    assert ainode(config, "route", "live", "skin next").exit_code == 0
    text = routes(config)
    alone = text[: text.index("[[route]]")] + text[text.rindex("[[route]]") :]
    config.with_name("routes.toml").write_text(alone, encoding="utf-8")
    done = ainode(config, "route", "back", "skin next")
    assert done.exit_code == 0, done.exception
    assert (
        "skin next is a shadow, no other route changes: see that one is live in the place of skin next" in done.output
    )
    assert "still to do" not in done.output
    assert {name: mode for name, (mode, _) in modes(config).items()} == {"skin next": RouteMode.SHADOW}
    assert [event.details.get("in the place of") for event in events(load(config).data / "audit")] == ["skin", None]


def test_a_route_that_never_went_live_cannot_go_back(config: Path) -> None:
    for name, words in (("skin", "no file beside"), ("skin next", "is not live, so it cannot go back")):
        error = ainode(config, "route", "back", name).exception
        assert isinstance(error, ConfigError)
        assert words in str(error)


def test_a_model_whose_documents_would_stay_in_the_node_does_not_go_live(config: Path) -> None:
    answer(config, 20)
    text = ROUTES.replace('"skin next"\nhandler = "support.handler"', '"skin next"\nhandler = "ct_pneumonia"')
    config.with_name("routes.toml").write_text(text, encoding="utf-8")
    error = ainode(config, "route", "live", "skin next").exception
    assert isinstance(error, ConfigError)
    assert "not done: route skin next would be shadow: not ready for patients" in str(error)
    assert routes(config) == text


def test_several_live_routes_of_the_same_images_are_told_and_one_is_to_be_named(config: Path) -> None:
    answer(config, 20)
    twin = ROUTES + '\n[[route]]\nname = "bone"\nhandler = "support.handler"\nmodality = ["DX"]\n'
    config.with_name("routes.toml").write_text(twin, encoding="utf-8")
    error = ainode(config, "route", "live", "skin next").exception
    assert isinstance(error, ConfigError)
    assert "live routes that take the same images as 'skin next': skin, bone; give --instead-of NAME" in str(error)
    assert ainode(config, "route", "live", "skin next", "--instead-of", "skin").exit_code == 0
    assert modes(config)["bone"][0] is RouteMode.LIVE


def test_a_shadow_of_other_images_takes_no_place_unasked_and_says_what_it_takes(config: Path) -> None:
    answer(config, 20)
    text = ROUTES.replace('name = "skin next"\n', 'name = "skin next"\nmin_instances = 3\n')
    config.with_name("routes.toml").write_text(text, encoding="utf-8")
    error = ainode(config, "route", "live", "skin next").exception
    assert "live routes that take the same images as 'skin next': none" in str(error)
    done = ainode(config, "route", "live", "skin next", "--instead-of", "skin")
    assert "the routes take other images: min_instances: skin next 3, skin 1" in done.output


def test_the_new_route_answers_by_the_rules_of_the_former_one_where_it_states_none(config: Path) -> None:
    answer(config, 20)
    rules = (
        'name = "skin"              # the model of last year\nreport_out_of_scope = true\npriority = 5\n'
        'urgent_tags = { RequestedProcedurePriority = "STAT|HIGH" }\n'
    )
    urgent = '# everything goes there\n\n[route.urgent]\npresence = ["present"]\nmin_probability = 0.8\n'
    text = ROUTES.replace('name = "skin"              # the model of last year\n', rules)
    text = text.replace("# everything goes there\n", urgent).replace('"skin next"\n', '"skin next"\npriority = 50\n')
    config.with_name("routes.toml").write_text(text, encoding="utf-8")
    before = load(config).routes
    former, _ = before
    done = ainode(config, "route", "live", "skin next")
    assert done.exit_code == 0, done.exception
    _, new = load(config).routes
    keys = ("report_out_of_scope", "urgent_tags", "urgent", "priority")
    assert [getattr(new, key) for key in keys] == [True, former.urgent_tags, former.urgent, 50]
    assert former.urgent is not None
    assert "report_out_of_scope = true is that of skin, since skin next stated none" in done.output
    assert "the routes differ: priority: skin next 50, skin 5" in done.output
    config.with_name("routes.toml").write_text(f"{routes(config)}# looked at\n", encoding="utf-8")
    assert "stays" in ainode(config, "route", "back", "skin next").output
    assert (load(config).routes, routes(config).endswith("# looked at\n")) == (before, True)


def test_what_the_routes_do_differently_is_told_before_one_takes_the_place_of_the_other(config: Path) -> None:
    answer(config, 20)
    text = ROUTES.replace('"skin next"\n', '"skin next"\nreport_out_of_scope = false\ndetect = true\n')
    text = text.replace("# the model of last year\n", "\nreport_out_of_scope = true\n")
    config.with_name("routes.toml").write_text(text, encoding="utf-8")
    output = ainode(config, "route", "live", "skin next").output
    assert "the routes differ: report_out_of_scope: skin next false, skin true" in output
    assert "the routes differ: detect: skin next true, skin false" in output
    assert not load(config).routes[1].report_out_of_scope


BOTH = ROUTES.replace('["pacs"]', '["pacs", "other"]').replace(
    'mode = "shadow" ', 'destinations = ["pacs"]\nmode = "shadow" '
)


def test_a_destination_of_the_live_route_alone_keeps_the_new_one_from_going_live(config: Path) -> None:
    answer(config, 20)
    config.with_name("routes.toml").write_text(BOTH, encoding="utf-8")
    line = 'destinations = ["pacs", "other"]'
    for options in ((), ("--anyway",)):
        error = ainode(config, "route", "live", "skin next", *options).exception
        assert isinstance(error, ConfigError)
        assert "not done: destination other of skin is none of skin next" in str(error)
        assert f"write {line} in its [[route]]" in str(error)
        assert routes(config) == BOTH
    config.with_name("routes.toml").write_text(BOTH.replace('destinations = ["pacs"]', line), encoding="utf-8")
    assert ainode(config, "route", "live", "skin next").exit_code == 0
    assert modes(config)["skin next"] == (RouteMode.LIVE, ("pacs", "other"))


def test_a_destination_that_a_person_leaves_out_by_name_is_told_and_recorded(config: Path) -> None:
    answer(config, 20)
    config.with_name("routes.toml").write_text(BOTH, encoding="utf-8")
    unknown = ainode(config, "route", "live", "skin next", "--without", "pacs").exception
    assert "--without pacs: destinations of skin that skin next has not are other" in str(unknown)
    done = ainode(config, "route", "live", "skin next", "--without", "other")
    assert 'the routes differ: destinations: skin next ["pacs"], skin ["pacs", "other"]' in done.output
    assert modes(config)["skin next"] == (RouteMode.LIVE, ("pacs",))
    (event,) = events(load(config).data / "audit")
    assert event.details == {"Alert Description": "went live", "in the place of": "skin", "without": "other"}


def test_the_way_back_says_which_destination_the_route_that_is_live_again_has_not(config: Path) -> None:
    answer(config, 20)
    assert ainode(config, "route", "live", "skin next").exit_code == 0
    more = routes(config).replace(
        '"skin next"\ndestinations = ["pacs"]', '"skin next"\ndestinations = ["pacs", "other"]'
    )
    config.with_name("routes.toml").write_text(more, encoding="utf-8")
    done = ainode(config, "route", "back", "skin next")
    assert done.exit_code == 0, done.exception
    assert "still to do: destination other of skin next is none of skin" in done.output
    assert modes(config)["skin"] == (RouteMode.LIVE, ("pacs",))


def test_a_notification_of_the_former_route_alone_keeps_the_new_one_from_going_live(config: Path) -> None:
    answer(config, 20)
    tables = """
[self_test]
routes = ["skin"]
[[notification]]
name = "on-call"
to = "folder"
folder = "/nowhere"
on = ["present"]
routes = ["skin"]
[[notification]]
name = "queue"
to = "folder"
folder = "/nowhere"
on = ["queue"]
routes = ["skin"]
"""
    config.write_text(f"{config.read_text(encoding='utf-8')}{tables}", encoding="utf-8")
    error = ainode(config, "route", "live", "skin next").exception
    assert isinstance(error, ConfigError)
    told = "notification on-call names skin and not skin next, so nobody would be told by it what skin next answers"
    assert f'not done: {told}; write routes = ["skin", "skin next"] in its [[notification]]' in str(error)
    assert "queue" not in str(error)
    assert routes(config) == ROUTES
    insisted = ainode(config, "route", "live", "skin next", "--anyway")
    assert f"still to do: {told}" in insisted.output
    assert 'still to do: [self_test] tests skin and not skin next; write routes = ["skin", "skin next"]' in (
        insisted.output
    )


def test_no_notification_is_told_off_that_names_both_routes(config: Path) -> None:
    answer(config, 20)
    table = 'name = "on-call"\nto = "folder"\nfolder = "/nowhere"\non = ["present"]\nroutes = ["skin", "skin next"]\n'
    config.write_text(f"{config.read_text(encoding='utf-8')}[[notification]]\n{table}", encoding="utf-8")
    assert "still to do" not in ainode(config, "route", "live", "skin next").output
    assert "still to do" not in ainode(config, "route", "back", "skin next").output
    assert routes(config) == ROUTES


def test_the_way_back_says_which_notification_names_the_route_that_becomes_a_shadow_alone(config: Path) -> None:
    answer(config, 20)
    assert ainode(config, "route", "live", "skin next").exit_code == 0
    table = 'name = "on-call"\nto = "folder"\nfolder = "/nowhere"\non = ["present"]\nroutes = ["skin next"]\n'
    config.write_text(f"{config.read_text(encoding='utf-8')}[[notification]]\n{table}", encoding="utf-8")
    done = ainode(config, "route", "back", "skin next")
    assert done.exit_code == 0
    assert "still to do: notification on-call names skin next and not skin, so nobody would be told" in done.output


def test_a_worklist_of_the_former_route_alone_keeps_the_new_one_from_going_live(config: Path) -> None:
    answer(config, 20)
    peer = 'name = "list"\ndeliver = "dicomweb"\nretrieve = "dicomweb"\ndicomweb = "http://127.0.0.1:9/dicom-web"'
    worklist = f'[[peer]]\n{peer}\n[peer.worklist]\nroutes = ["skin"]\n'
    config.write_text(f"{config.read_text(encoding='utf-8')}{worklist}", encoding="utf-8")
    error = ainode(config, "route", "live", "skin next").exception
    assert isinstance(error, ConfigError)
    assert "the worklist of list names skin and not skin next" in str(error)
    assert 'write routes = ["skin", "skin next"] in its [peer.worklist] of node.toml' in str(error)


def test_jobs_says_which_route_is_a_shadow(config: Path) -> None:
    engine = database.connect(load(config).database_url)
    routes = ("skin", RouteMode.LIVE), ("skin next", RouteMode.SHADOW), ("skin next", None)
    for number, (route, mode) in enumerate(routes):
        job = Job(f"{number}" * 32, UID(f"1.2.{number}"), route, "support.handler", {}, NOW, NOW, (), mode=mode)
        assert Ledger(engine).open(job)
    engine.dispose()
    words = {line.split()[0][0]: line for line in ainode(config, "jobs").output.splitlines()[1:]}
    assert words["0"].endswith("its route had no destinations when the study was routed")
    assert words["1"].endswith("its route is a shadow")
    assert words["2"].endswith("its route was a shadow or had no destinations when the study was routed")


def test_jobs_names_the_command_that_sends_what_a_route_read_as_a_shadow_that_is_live_by_now(config: Path) -> None:
    answer(config, 20)
    settings = load(config)
    engine = database.connect(settings.database_url)
    ledger = Ledger(engine)
    job = Job("1" * 32, UID("1.2.3"), "skin next", "support.handler", {}, NOW, NOW, (), mode=RouteMode.SHADOW)
    assert ledger.open(job)
    ledger.move(job.id, JobState.READING, at=NOW)
    assert ledger.report(job, (), Outcome(JobState.REPORTED, "", "", 4.2, {}, NOW))
    engine.dispose()
    assert ainode(config, "jobs", "1.2.3").output.splitlines()[1].endswith("its route is a shadow")
    assert ainode(config, "route", "live", "skin next").exit_code == 0
    words = ainode(config, "jobs", "1.2.3").output.splitlines()[1]
    command = f"ainode send {settings.data / 'documents' / job.id} pacs"
    assert words.endswith(f"its route was a shadow when the study was routed; `{command}` sends its documents")


def rename(config: Path, name: str, new: str) -> None:
    text = routes(config).replace(f'name = "{name}" ', f'name = "{new}" ')
    config.with_name("routes.toml").write_text(text, encoding="utf-8")


def test_jobs_says_of_a_route_that_is_gone_that_it_is(config: Path) -> None:
    engine = database.connect(load(config).database_url)
    assert Ledger(engine).open(Job("1" * 32, UID("1.2.3"), "skin", "support.handler", {}, NOW, NOW, ("pacs",)))
    engine.dispose()
    assert "no more" not in ainode(config, "jobs").output
    rename(config, "skin", "moles")
    assert ainode(config, "jobs").output.splitlines()[1].endswith("routes.toml has its route no more")


def test_a_comparison_after_a_new_name_says_that_the_answers_stand_under_the_old_and_takes_it(config: Path) -> None:
    answer(config, 24)
    rename(config, "skin", "moles")
    words = ainode(config, "compare", "moles", "skin next").output
    assert words.startswith("moles (live) and skin next (shadow): 0 studies that both answered")
    assert words.splitlines()[-1].endswith("stand under the old name, which can be compared: skin 24 studies")
    words = ainode(config, "compare", "skin", "skin next").output
    assert words.startswith("skin (gone) and skin next (shadow): 24 studies that both answered")
    assert "old name" not in words
    assert isinstance(ainode(config, "compare", "bone", "skin next").exception, ConfigError)


def test_the_routes_that_ship_are_not_changed(config: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "node.toml"
    alone.parent.mkdir()
    shutil.copy(config, alone)
    error = ainode(alone, "route", "back", "skin-lesion").exception
    assert isinstance(error, ConfigError)
    assert "the routes that ship are not changed" in str(error)
