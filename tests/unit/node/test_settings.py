import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, strategies
from pydantic import BaseModel, ValidationError

from ainode.node.domain import UrgentRule
from ainode.node.errors import ConfigError
from ainode.node.routes import PriorRule, Route, RouteMode
from ainode.node.settings import NodeTable, Peer, Settings, Subscription, load, shipped
from ainode.node.settings.pages import WebTable
from ainode.node.settings.whole import Tables

PEER = """
[[peer]]
name = "orthanc"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = 4242
"""

ORTHANC = 'deliver = "orthanc"\northanc = "http://127.0.0.1:8042"\n'
FHIR = 'fhir = "https://h/fhir"\n'
SERVER = f'[[peer]]\nname = "ehr"\ndeliver = "fhir"\n{FHIR}'
OAUTH2 = '[peer.oauth2]\ntoken_url = "https://h/token"\nclient_id_env = "I"\nclient_secret_env = "S"\n'
LISTENER = '[[peer]]\nname = "his"\nhost = "h"\nport = 2575\ndeliver = "hl7"\n'
WORKLIST = PEER + 'dicomweb = "https://pacs/rs"\n[peer.worklist]\n'
ROUTE = '[[route]]\nname = "a"\nhandler = "b"\ndestinations = ["orthanc"]\n'
CALLER = '[[peer]]\nname = "ct"\nae_title = "CT1"\n'
PRIORS = '[[route]]\nname = "a"\nhandler = "b"\n[route.priors]\n'


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AINODE_")]:
        monkeypatch.delenv(name)


def written(folder: Path, node: str = "", routes: str = "") -> Path:
    (folder / "routes.toml").write_text(routes, encoding="utf-8")
    path = folder / "node.toml"
    path.write_text(node, encoding="utf-8")
    return path


def refusals(path: Path | None) -> list[str]:
    try:
        load(path)
    except ConfigError as refusal:
        return str(refusal).splitlines()
    return []


def test_the_shipped_files_say_the_defaults() -> None:
    shipped = load()
    assert shipped.model_copy(update={"routes": ()}) == Settings()
    names = [
        "spine-radiograph",
        "spine-angles",
        "lung-nodule",
        "ct-pneumonia",
        "ct-tumor",
        "pancreas-ct",
        "skin-lesion",
    ]
    assert [route.name for route in shipped.routes] == names


def test_empty_files_are_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path)) == Settings()


def test_a_file_wins_over_the_defaults_and_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, '[node]\nport = 11113\nname = "here"\n')
    assert load(path).node.port == 11113
    monkeypatch.setenv("AINODE_NODE__PORT", "11114")
    monkeypatch.setenv("AINODE_COMPLETENESS__ASK_SENDER", "false")
    settings = load(path)
    assert (settings.node.port, settings.node.name, settings.completeness.ask_sender) == (11114, "here", False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AINODE_TOKEN", "ainode_abc"),
        ("AINODE_SERVICE_HOST", "10.0.0.1"),
        ("AINODE_PORT", "tcp://10.0.0.1:11112"),
        ("AINODE_PORT_11112_TCP_ADDR", "10.0.0.1"),
        ("AINODE_WEB_SERVICE_PORT_HTTP", "8080"),
        ("AINODES_NODE__PORT", "11113"),
    ],
)
def test_a_variable_that_another_program_reads_or_a_cluster_sets_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert load(written(tmp_path)) == Settings()


def test_a_variable_that_holds_a_credential_of_a_peer_is_no_unknown_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AINODE_PACS_USER", "reader")
    with pytest.raises(ConfigError, match="AINODE_PACS_USER: is no setting"):
        load(written(tmp_path))
    names = 'user_env = "AINODE_PACS_USER"\npassword_env = "PACS_PASSWORD"\n'
    assert load(written(tmp_path, PEER + names)).peer("orthanc").user_env == "AINODE_PACS_USER"


def test_a_variable_of_a_client_of_oauth2_is_no_unknown_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AINODE_EHR_ID", "node")
    login = '[peer.oauth2]\ntoken_url = "https://h/token"\nclient_id_env = "AINODE_EHR_ID"\nclient_secret_env = "S"\n'
    ehr = f'[[peer]]\nname = "ehr"\ndeliver = "fhir"\nfhir = "https://h/fhir"\n{login}'
    assert load(written(tmp_path, ehr)).peer("ehr").oauth2
    with pytest.raises(ConfigError, match="AINODE_EHR_ID: is no setting"):
        load(written(tmp_path, ehr.replace("AINODE_EHR_ID", "EHR_ID")))


def test_a_table_in_a_variable_wins_over_the_file_and_a_key_in_a_variable_over_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AINODE_NODE", '{"port": 11113, "name": "table"}')
    monkeypatch.setenv("ainode_node__name", "key")
    monkeypatch.setenv("AINODE_NODE__ALLOW", '["CT1@10.0.0.1"]')
    monkeypatch.setenv("AINODE_PEER", '[{"name": "mr", "ae_title": "MR1"}]')
    settings = load(written(tmp_path, "[node]\nport = 1\nretention_days = 3\n" + CALLER))
    node = settings.node
    assert (node.port, node.name, node.retention_days, node.allow) == (11113, "key", 3, ("CT1@10.0.0.1",))
    assert [peer.name for peer in settings.peers] == ["mr"]


def test_every_problem_of_both_files_has_a_line_of_its_own(tmp_path: Path) -> None:
    node, routes = "[node]\nport = 0\nprot = 1\n", '[[route]]\nname = "a"\n'
    with pytest.raises(ConfigError) as refusal:
        load(written(tmp_path, node, routes))
    keys = [line.split(": ")[1] for line in str(refusal.value).splitlines()]
    assert keys == ["node.port", "node.prot", "route.0.handler"]


@pytest.mark.parametrize(
    ("node", "routes", "key"),
    [
        ("[node]\nprot = 1\n", "", "node.prot: unknown key"),
        ("[nodes]\n", "", "nodes: unknown key"),
        ("[node]\nport = 70000\n", "", "node.port"),
        ('[node]\nae_title = "SEVENTEEN LETTERS"\n', "", "node.ae_title"),
        ('[node]\nae_title = "BACK\\\\SLASH"\n', "", "node.ae_title"),
        ('[reader]\nprecision = "f64"\n', "", "reader.precision"),
        ('[[peer]]\nname = "x"\n', "", "give ae_title, host and port"),
        (PEER.replace("port = 4242\n", ""), "", "peer 'orthanc': has half an address"),
        (PEER.replace("4242", "0"), "", "peer 'orthanc': has half an address"),
        (
            PEER.replace('host = "127.0.0.1"\n', ""),
            "",
            "peer 'orthanc': has half an address",
        ),
        (PEER.replace('ae_title = "ORTHANC"\n', "") + ORTHANC, "", "peer 'orthanc': has half an address"),
        (PEER.replace("4242", "70000"), "", "peer.0.port: 70000 is too large; give 65535 or less (in 'orthanc')"),
        (PEER.replace("ORTHANC", "SEVENTEEN LETTERS"), "", "peer.0.ae_title: has more than 16"),
        ("[node]\nport = 0\n", "", "node.port"),
        (PEER * 2, "", "two [[peer]] are named 'orthanc'"),
        ("", '[[route]]\nname = "a"\nhandler = "b"\n' * 2, "two [[route]] are named 'a'"),
        (
            CALLER,
            '[[route]]\nname = "a"\nhandler = "b"\ndestinations = ["ct"]\n',
            "route 'a' sends to 'ct', which has no address; give its host",
        ),
        (CALLER, PRIORS + 'from = "ct"\n', "route 'a' fetches priors from 'ct' by DIMSE; give its ae_title, host and"),
        (LISTENER.replace('host = "h"\n', ""), "", "peer 'his': give host and port of the HL7 listener"),
        (LISTENER + 'ae_title = "A"\n', "", "peer 'his': ae_title is of DICOM, which an HL7 listener does not speak"),
        (LISTENER + 'sr = "comprehensive"\nconfirm = "none"\n', "", "peer 'his': sr, confirm is of DICOM"),
        (PEER + "[peer.hl7]\n", "", "peer 'orthanc': [peer.hl7] is for a listener; give deliver = "),
        (LISTENER + '[peer.hl7]\ncharacter_set = "latin"\n', "", "peer.0.hl7.character_set"),
        (LISTENER + '[peer.hl7]\nsending_application = "A NAME OF 21 LETTERS."\n', "", "hl7.sending_application"),
        (SERVER.replace(FHIR, ""), "", "peer 'ehr': give `fhir`, the base address of the FHIR server"),
        (
            SERVER + 'host = "h"\nport = 1\n',
            "",
            "peer 'ehr': host, port is of DICOM or HL7, which a FHIR server does not",
        ),
        (LISTENER + FHIR, "", "peer 'his': fhir is of DICOM or FHIR, which an HL7 listener does not speak"),
        (PEER + FHIR, "", "peer 'orthanc': fhir is for a listener; give deliver = "),
        (PEER + "[peer.resources]\n", "", "peer 'orthanc': [peer.resources] is for a listener; give deliver = "),
        (SERVER + '[peer.resources]\npatient = "create"\n', "", "needs patient_systems"),
        (SERVER + '[peer.resources]\naccession_system = "1.2.3"\n', "", "is no URI such as urn:oid:1.2.3"),
        (SERVER + OAUTH2.replace("https", "http"), "", "token_url gets a secret; give an https address"),
        (SERVER + 'token_env = "T"\n' + OAUTH2, "", "peer 'ehr': has two credentials"),
        (PEER + "[peer.worklist]\n", "", "peer 'orthanc': [peer.worklist] is read by DICOMweb; give `dicomweb`"),
        (LISTENER + "[peer.worklist]\n", "", "peer 'his': worklist is of DICOM, which an HL7 listener does not speak"),
        (WORKLIST, "", "peer.worklist: no route sends its answers anywhere, so each workitem would be canceled"),
        (WORKLIST + 'routes = ["b"]\n', ROUTE, "peer.worklist.routes: no [[route]] of"),
        (WORKLIST + 'label = "A,B"\n', "", "peer.0.worklist.label: has a comma, a wild card"),
        (WORKLIST + "most_claimed = 0\n", "", "peer.0.worklist.most_claimed: 0 is too small; give 1 or more"),
        (LISTENER, PRIORS + 'from = "his"\n', "route 'a' fetches priors from 'his', a listener for messages"),
        (PEER.replace('"orthanc"', '"or thanc"'), "", "peer.0.name"),
        ("", '[[route]]\nname = "a"\n', "route.0.handler"),
        ("", '[[route]]\nname = "a"\nhandler = "b"\npatterns = 1\n', "route.0.patterns: unknown key"),
        ("", '[[route]]\nname = "a"\nhandler = "b"\nmode = "dead"\n', "route.0.mode"),
        ("", '[[route]]\nname = "a"\nhandler = "b"\npriority = 0\n', "route.0.priority"),
        ("", PRIORS + "count = 2\n", "route.0.priors.from"),
        ("", PRIORS + 'from = "orthanc"\nsource = "orthanc"\n', "route.0.priors.source: unknown key"),
        ("", PRIORS + 'from = "orthanc"\nyears = 3\n', "route.0.priors.years: unknown key"),
        ("", PRIORS + 'from = "orthanc"\ncount = 0\n', "route.0.priors.count"),
        ("", PRIORS + 'from = "orthanc"\ntimeout_s = inf\n', "route.0.priors.timeout_s"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(tmp_path: Path, node: str, routes: str, key: str) -> None:
    path = written(tmp_path, node, routes)
    with pytest.raises(ConfigError) as refusal:
        load(path)
    assert key in str(refusal.value)
    assert ("routes.toml" if routes else "node.toml") in str(refusal.value)


@pytest.mark.parametrize(
    ("node", "routes", "message"),
    [
        ("[node]\nretention_day = 7\n", "", "node.retention_day: unknown key (did you mean retention_days?)"),
        (PEER + "prot = 104\n", "", "(did you mean port?); correct it, or remove it (in 'orthanc')"),
        (PEER + "[peer.hl7]\nreceiving_aplication = 'RIS'\n", "", "(did you mean receiving_application?); correct it"),
        (PEER + "[peer.resources]\naccession_sistem = 'x'\n", "", "(did you mean accession_system?); correct it"),
        (PEER + "[peer.oauth2]\ntoken_ulr = 'x'\n", "", "(did you mean token_url?); correct it, or remove it"),
        (PEER + "[peer.worklist]\nstation_nam = 'x'\n", "", "(did you mean station_name?); correct it, or remove"),
        (
            "",
            '[[route]]\nname = "a"\nhandler = "b"\ndestination = ["x"]\n',
            "route.0.destination: unknown key (did you mean destinations?); correct it, or remove it (in 'a')",
        ),
        (
            "",
            '[[route]]\nname = "a"\nhandler = "b"\nfrom = "CT1"\n',
            "route.0.from: unknown key (it is a key of another table); correct it, or remove it (in 'a')",
        ),
        ("", '[[route]]\nname = "a"\nhandler = "b"\nmode = "dead"\n', "(in 'a')"),
    ],
)
def test_a_misspelled_key_is_answered_with_the_key_it_resembles_and_the_name_of_its_table(
    tmp_path: Path, node: str, routes: str, message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(written(tmp_path, node, routes))
    assert message in str(refusal.value)


@pytest.mark.parametrize("routes", ["route = 3\n", "route = [3]\n", '[[route]]\nhandler = "b"\n', "[route]\nx = 1\n"])
def test_a_route_without_a_name_or_a_table_is_refused_all_the_same(tmp_path: Path, routes: str) -> None:
    with pytest.raises(ConfigError, match="route"):
        load(written(tmp_path, "", routes))


@pytest.mark.parametrize("content", ["[node", "port = \n", "\x00"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=r"node\.toml: is not TOML"):
        load(written(tmp_path, content))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "node.toml")
    (sentence,) = refusals(tmp_path / "node.toml")
    assert sentence.startswith(f"{tmp_path / 'node.toml'}: is a device or a pipe")
    assert sentence.endswith("give the path of a file")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load(tmp_path / "absent.toml")


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that the process may not enter, root included."""
    folder = tmp_path / "closed"
    folder.mkdir()
    written(folder)
    folder.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o700)


def test_a_file_in_a_folder_that_the_user_may_not_enter_is_named(closed_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"node\.toml: cannot be read \(Permission denied\); "):
        load(closed_folder / "node.toml")


def test_a_route_becomes_the_domain_s_with_its_destinations(tmp_path: Path) -> None:
    routes = """
    [[route]]
    name = "hip"
    handler = "hip"
    modality = ["DX"]
    tags = { Rows = ">=256" }
    required_series = [{ Modality = "MR" }]
    destinations = ["orthanc"]
    mode = "shadow"

    [route.priors]
    from = "orthanc"
    modality = ["MR"]
    tags = { SeriesDescription = "*T2*" }
    """
    settings = load(written(tmp_path, PEER, routes))
    assert settings.peer("orthanc").port == 4242
    assert settings.routes == (
        Route(
            "hip",
            "hip",
            modality=("DX",),
            tags={"Rows": ">=256"},
            required_series=({"Modality": "MR"},),
            priors=PriorRule("orthanc", modality=("MR",), tags={"SeriesDescription": "*T2*"}),
            destinations=("orthanc",),
            mode=RouteMode.SHADOW,
        ),
    )


def test_a_destination_that_is_no_peer_is_named(tmp_path: Path) -> None:
    routes = '[[route]]\nname = "a"\nhandler = "b"\ndestinations = ["pacs"]\n'
    with pytest.raises(ConfigError, match="'a' sends to 'pacs'"):
        load(written(tmp_path, PEER, routes))


def test_a_peer_that_is_unknown_is_named_beside_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'pacs'.*known: orthanc"):
        load(written(tmp_path, PEER)).peer("pacs")


def test_settings_cannot_be_changed_after_loading() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().node = Settings().node


def test_the_catalog_lies_in_the_data_folder_unless_an_address_is_given(tmp_path: Path) -> None:
    settings = load(written(tmp_path, f'[node]\ndata = "{tmp_path}"\n'))
    assert settings.database_url == f"sqlite:///{tmp_path}/catalog.sqlite"
    given = load(written(tmp_path, '[database]\nurl = "postgresql+psycopg://host/ainode"\n'))
    assert given.database_url == "postgresql+psycopg://host/ainode"


def _numbers(tables: type[BaseModel]) -> list[str]:
    """Return `table.key` of every number that the tables of node.toml hold."""
    return [
        f"{table}.{key}"
        for table, tabled in tables.model_fields.items()
        for key, field in (tabled.annotation.model_fields if tabled.annotation else {}).items()
        if field.annotation in {int, float}
    ]


@pytest.mark.parametrize("key", _numbers(Tables))
@pytest.mark.parametrize("number", ["999999999999999999", "-1", "inf", "nan"])
def test_a_number_that_no_clock_disk_or_socket_takes_is_refused_by_its_key(
    tmp_path: Path, key: str, number: str
) -> None:
    table, name = key.split(".")
    with pytest.raises(ConfigError, match=rf"{table}\.{name}: "):
        load(written(tmp_path, f"[{table}]\n{name} = {number}\n"))


def test_the_longest_retention_is_a_time_that_the_calendar_has() -> None:
    longest = NodeTable(retention_days=36_500).retention_days
    assert datetime.now(UTC) - timedelta(days=longest) < datetime.now(UTC)


@pytest.mark.parametrize("line", ["max_age_days = 999999", "timeout_s = inf"])
def test_a_rule_for_priors_that_leaves_the_calendar_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=line.split(maxsplit=1)[0]):
        load(written(tmp_path, PEER, f'{PRIORS}from = "orthanc"\n{line}\n'))


# Of every type of TOML, with what a keyboard, a script or a spreadsheet leaves.
VALUES: tuple[Any, ...] = (
    *("", "a", "a b", "//", "\n", "\0", "\u00fc" * 400),
    *(-1, 0, 10**18, 1e-7, 1.5, math.nan, math.inf, True),
    *([], [1], ["\n"], [{}], {}, {"a": 1}),
)
SENTENCE = re.compile(r"\S+\.toml: (route '|[a-z0-9_.]+: ).+; .+")


def _tables() -> Iterator[tuple[str, str, Callable[[Any], dict[str, Any]]]]:
    """Yield file, key and the values of the file around each key of node.toml and routes.toml."""
    for table, field in Tables.model_fields.items():
        for key in type(field.default).model_fields:
            yield "node.toml", f"{table}.{key}", lambda value, table=table, key=key: {table: {key: value}}
    peer = {"name": "p", "ae_title": "P", "host": "h", "port": 104}
    for key in Peer.model_fields:
        yield "node.toml", f"peer.{key}", lambda value, key=key: {"peer": [peer | {key: value}]}
    pager = {"name": "n", "to": "folder", "folder": "/f", "on": ["alert"]}
    for key in Subscription.model_fields:
        yield "node.toml", f"notification.{key}", lambda value, key=key: {"notification": [pager | {key: value}]}
    route = {"name": "r", "handler": "h"}
    for key in (field.name for field in fields(Route)):
        yield "routes.toml", f"route.{key}", lambda value, key=key: {"route": [route | {key: value}]}
    for key in (field.name for field in fields(UrgentRule)):
        yield "routes.toml", f"urgent.{key}", lambda value, key=key: {"route": [route | {"urgent": {key: value}}]}
    for key in ("from", *(field.name for field in fields(PriorRule) if field.name != "source")):
        yield (
            "routes.toml",
            f"priors.{key}",
            lambda value, key=key: {"route": [route | {"priors": {"from": "p", key: value}}]},
        )


@pytest.mark.parametrize(
    ("name", "key", "around"), list(_tables()), ids=lambda part: part if isinstance(part, str) else ""
)
def test_whatever_a_key_holds_is_taken_or_refused_by_file_key_and_remedy(
    tmp_path: Path, name: str, key: str, around: Callable[[Any], dict[str, Any]]
) -> None:
    path = written(tmp_path)
    for value in VALUES:
        (tmp_path / name).write_text(tomli_w.dumps(around(value)), encoding="utf-8")
        for line in refusals(path):
            assert SENTENCE.fullmatch(line), (key, value, line)


SHIPPED = tuple(shipped(name).read_bytes() for name in ("node.toml", "routes.toml"))


@given(data=strategies.data())
def test_files_with_other_bytes_in_them_are_taken_or_refused_and_raise_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: strategies.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    for name, content in zip(("node.toml", "routes.toml"), SHIPPED, strict=True):
        start = data.draw(strategies.integers(0, len(content)))
        end = data.draw(strategies.integers(start, min(start + 40, len(content))))
        junk = data.draw(strategies.binary(max_size=8) | strategies.sampled_from([b"\n[", b"=", b'"', b"[" * 5000]))
        (folder / name).write_bytes(content[:start] + junk + content[end:])
    refusals(folder / "node.toml")


@given(
    strategies.sampled_from(["AINODE_NODE", "AINODE_PEER", "AINODE_NODE__ALLOW", "AINODE_NODE__PORT", "AINODE_WEB__X"]),
    strategies.text(strategies.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
    | strategies.sampled_from(["[" * 100_000, "{}", "[]", "null", '[{"name": []}]', '{"port": {}}', "[[]]"]),
)
def test_a_variable_of_any_text_is_taken_or_refused_by_its_name(name: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, text)
        assert all(line.startswith(f"{name}: ") for line in refusals(None))


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:81/"),
        ("0.0.0.0", "http://localhost:81/"),  # noqa: S104 - an address to type is asked for; nothing listens
        ("::", "http://localhost:81/"),
        ("::1", "http://[::1]:81/"),
        ("node.example", "http://node.example:81/"),
    ],
)
def test_the_address_of_the_console_is_one_that_a_person_on_the_machine_can_type(bind: str, address: str) -> None:
    assert WebTable(bind=bind, port=81).address == address


def test_the_address_of_a_console_with_a_certificate_is_https() -> None:
    assert WebTable(port=81, tls_certificate=Path("a"), tls_key=Path("b")).address == "https://127.0.0.1:81/"


def test_pages_and_self_tests_on_one_port_are_refused_though_the_node_has_that_port_at_another_address(
    tmp_path: Path,
) -> None:
    node = """
[node]
bind = "10.0.0.5"
port = 11112
[web]
enabled = true
port = 11112
[self_test]
routes = ["a"]
port = 11112
"""
    route = '[[route]]\nname = "a"\nhandler = "skin_lesion"\n'
    (refusal,) = refusals(written(tmp_path, node, route))
    assert refusal.endswith("self_test.port: 11112 is web.port too; give each a port of its own")
    assert refusals(written(tmp_path, node.replace("enabled = true\n", ""), route)) == []


def test_a_port_that_the_node_has_at_every_address_is_refused_for_the_pages(tmp_path: Path) -> None:
    node = '[node]\nbind = "0.0.0.0"\nport = 11112\n[web]\nenabled = true\nport = 11112\n'
    (refusal,) = refusals(written(tmp_path, node))
    assert refusal.endswith("web.port: 11112 is node.port too; give each a port of its own")
