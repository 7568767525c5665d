"""What is in a support bundle, and what is masked; `test_canary.py` looks for a patient in one of a whole node."""

import re
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pytest
import sqlalchemy as sa
from support.databases import migrated

from ainode.node.commands.support_bundle import Choices, write_bundle
from ainode.node.domain import UID, JobState
from ainode.node.errors import ConfigError
from ainode.node.keeping import database
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.settings import Settings, load, sources

STUDY = "1.2.826.0.1.3680043.8.498.1"
LOG = f"""INFO: association of PACS address=10.1.2.3 at 12:30:05
WARNING: study {STUDY} refused action=object_refused address=2001:db8::17
INFO: sop class 1.2.840.10008.5.1.4.1.1.2 to pacs.hospital.example:104, version 1.10.2
INFO: ready on 127.0.0.1"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    peer = '[[peer]]\nname = "pacs"\nae_title = "PACS"\nhost = "pacs.hospital.example"\nport = 104'
    url = '[database]\nurl = "sqlite:////DATA/catalog.sqlite"'.replace("/DATA", str(tmp_path / "data"))
    path.write_text(f'[node]\ndata = "{tmp_path / "data"}"\n{url}\n{peer}\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "node.log").write_text(LOG, encoding="utf-8")
    engine = migrated(load(path).database_url)
    ledger, now = Ledger(engine), datetime.now(UTC)
    ledger.open(Job("job1", UID(STUDY), "spine", "h", {UID(STUDY): "00"}, now, now, ()))
    ledger.move("job1", JobState.FAILED, reason=f"series {STUDY}.7 cannot be read", at=now)
    engine.dispose()
    return path


def bundle(config: Path, **choices: bool) -> dict[str, str]:
    settings: Settings = load(config)
    path = config.with_name(f"{len(choices)}.zip")
    made = Choices(
        config.with_name("node.log"),
        masks_hosts=choices.get("masks_hosts", False),
        **{name: value for name, value in choices.items() if name != "masks_hosts"},
    )
    names = write_bundle(path, settings, sources(config), made)
    with ZipFile(path) as archive:
        assert archive.namelist() == names
        return {name: archive.read(name).decode() for name in names}


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("0001", "those of an older version of ainode; start `ainode serve` of this version"),
        ("9999", "those of a newer version of ainode; install that version here"),
    ],
)
def test_of_a_database_of_another_version_the_files_say_what_to_do(config: Path, version: str, words: str) -> None:
    engine = database.connect(load(config).database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    engine.dispose()
    files = bundle(config)
    for name in ("counts.txt", "failures.txt"):
        assert files[name].startswith(f"not made: [database] url: the tables (revision {version}) are {words}")
    assert "ainode" in files["versions.txt"]


def test_the_files_say_what_runs_what_failed_and_why(config: Path) -> None:
    files = bundle(config, keeps_uids=True)
    assert list(files) == [
        *("versions.txt", "configuration.txt", "check.txt", "counts.txt", "failures.txt", "log.txt"),
    ]
    assert files["versions.txt"].split()[2] == "ainode"
    assert "pacs.hospital.example" in files["configuration.txt"]
    assert "peer pacs" in files["check.txt"]
    assert f"series {STUDY}.7 cannot be read" in files["failures.txt"]
    assert "dead letters: 1" in files["counts.txt"]
    assert files["log.txt"].strip() == LOG


def test_a_uid_becomes_the_same_word_in_every_file_and_those_of_the_standard_stay(config: Path) -> None:
    files = bundle(config)
    together = "".join(files.values())
    assert STUDY not in together
    assert "1.2.840.10008.5.1.4.1.1.2 " in files["log.txt"]
    assert "version 1.10.2" in files["log.txt"]
    word = next(word for word in files["log.txt"].split() if word.startswith("uid-"))
    assert len(word) == len("uid-") + 12


def test_no_part_of_a_uid_is_in_the_bundle_where_the_log_is_cut(config: Path) -> None:
    line = f"INFO: {'x' * 1000} study {STUDY} end"
    long_log = "\n".join([line] * (5 << 10))
    # The cut leaves the last ten characters of the first UID that it meets.
    end = len(f"{STUDY[-10:]} end\n")
    whole_lines = ((4 << 20) - end) // len(f"{line}\n")
    padding = (4 << 20) - end - whole_lines * len(f"{line}\n")
    config.with_name("node.log").write_text(f"{long_log}\n{'y' * (padding - 1)}\n", encoding="utf-8")
    text = bundle(config)["log.txt"]
    assert STUDY[-10:] not in text
    assert text.startswith("INFO: xxx")


def test_hosts_and_addresses_are_masked_where_that_is_asked_for(config: Path) -> None:
    files = bundle(config, masks_hosts=True)
    together = "".join(files.values())
    for shown in ("hospital.example", "10.1.2.3", "2001:db8"):
        assert shown not in together
    assert "address=address-" in files["log.txt"]
    assert "to host-" in files["log.txt"]
    assert ":104" in files["log.txt"]
    assert "12:30:05" in files["log.txt"]
    assert "ready on 127.0.0.1" in files["log.txt"]


def test_no_secret_of_an_address_is_in_the_bundle(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINODE_CONSOLE__OHIF", "https://me:hidden@ohif.example/viewer?StudyInstanceUIDs={study}")
    assert "hidden@" not in "".join(bundle(config).values())


def test_a_password_of_the_database_with_a_slash_is_hidden_and_every_host_of_a_peer_is_masked(config: Path) -> None:
    login = '[peer.oauth2]\ntoken_url = "https://login.example/token"\nclient_id_env = "A"\nclient_secret_env = "B"\n'
    fhir = f'[[peer]]\nname = "ehr"\ndeliver = "fhir"\nfhir = "https://ehr.example/fhir"\n{login}'
    url = '"postgresql+psycopg://me:half/w0rd17@base.example/ainode"'
    config.write_text(re.sub("url = .*", f"url = {url}", config.read_text("utf-8")) + fhir, encoding="utf-8")
    together = "".join(bundle(config).values())
    assert "w0rd17" not in together
    assert "***@base.example/ainode" in together
    masked = "".join(bundle(config, masks_hosts=True).values())
    assert [host for host in ("login", "ehr", "base", "pacs.hospital") if f"{host}.example" in masked] == []


def test_an_archive_that_exists_and_a_log_that_is_not_there_are_refused(config: Path) -> None:
    settings, origin = load(config), sources(config)
    (config.with_name("out.zip")).write_bytes(b"mine")
    with pytest.raises(ConfigError, match="exists; give another name"):
        write_bundle(config.with_name("out.zip"), settings, origin, Choices())
    assert config.with_name("out.zip").read_bytes() == b"mine"
    with pytest.raises(ConfigError, match=r"absent\.log: cannot be read"):
        write_bundle(config.with_name("new.zip"), settings, origin, Choices(config.with_name("absent.log")))


def test_without_its_database_a_bundle_still_has_the_rest(config: Path) -> None:
    (config.parent / "data" / "catalog.sqlite").unlink()
    files = bundle(config)
    assert files["counts.txt"].startswith("not made: ")
    assert "pacs" in files["configuration.txt"]


def test_the_path_of_a_webhook_stays_out_and_hosts_of_notifications_are_masked(config: Path) -> None:
    hook = 'to = "webhook"\non = ["alert"]\naddress = "https://hooks.chat.example/T0/B0/Zx9"\nkey_env = "KEY"\n'
    boxes = 'sender = "a@site.example"\nrecipients = ["b@x.example"]'
    mail = f'to = "mail"\non = ["alert"]\nhost = "smtp.site.example"\n{boxes}\n'
    tables = f'[[notification]]\nname = "chat"\n{hook}[[notification]]\nname = "mail"\n{mail}'
    config.write_text(f"{config.read_text()}\n{tables}")
    assert "https://hooks.chat.example/***" in bundle(config, keeps_uids=True)["configuration.txt"]
    config.with_name("1.zip").unlink()
    together = "".join(bundle(config, masks_hosts=True).values())
    assert "Zx9" not in together
    assert [host for host in ("hooks.chat", "smtp.site", "site.example", "x.example") if host in together] == []
