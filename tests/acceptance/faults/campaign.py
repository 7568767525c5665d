"""The campaign: every fault, one after the other, each with a row."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

import pytest
from acceptance.faults import models, stow
from acceptance.faults.archives import archive_rows
from acceptance.faults.clocks import clock_rows, environment, modules
from acceptance.faults.console import console_rows
from acceptance.faults.disks import disk_rows, power_cuts
from acceptance.faults.endurance import endurance_row
from acceptance.faults.installation import Installation, Site, installed
from acceptance.faults.judgement import Row, judged
from acceptance.faults.kills import KILLS, kill_database, kill_node, kill_rows
from acceptance.faults.network import network_rows
from acceptance.faults.sender import new_studies
from support.disks import loop_disk
from support.postgresql import postgresql_server
from support.servers import Orthanc, free_port, orthanc


@dataclass(frozen=True)
class Scale:
    """How often each fault is made."""

    connections: int = 60
    """connections that suffer each harm of the network"""
    kills: int = 200
    studies: int = 1000
    instances: int = 10_000
    kills_at_once: int = 4
    """so many kills follow each other before everything has to recover"""
    archive_studies: int = 20
    archive_fault_s: int = 8
    disk_fault_s: int = 6
    poison: int = 3
    """studies on which each model fails"""
    attacks: int = 1
    """how often the console is attacked, a minute each"""
    seed: int = 1


SHORT: Final = Scale(
    connections=6,
    kills=8,
    kills_at_once=1,
    studies=10,
    instances=50,
    archive_studies=2,
    archive_fault_s=1,
    disk_fault_s=2,
    poison=1,
    attacks=0,
)
_LONGEST_NOTE: Final = 300
_SHARE_OF_PROCESSES: Final = 0.7
_SHARE_OF_WEB: Final = 0.1
_SHARE_OF_DATABASE: Final = 0.1
_SHARE_OF_POWER: Final = 0.1
COLUMNS: Final = tuple(field.name for field in fields(Row) if field.name != "note")


def rows(folder: Path, scale: Scale, groups: Iterable[str]) -> Iterator[Row]:
    """Run groups of faults in a folder, and yield each row as soon as it is known."""
    with orthanc(folder / "archive") as archive:
        for name in groups:
            yield from group_rows(name, folder / name, archive, scale)


def group_rows(name: str, folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    """Yield the rows of a group; where the group cannot begin, or ends early, a row that says so."""
    try:
        yield from GROUPS[name](folder, archive, scale)
    except pytest.skip.Exception as skip:
        yield Row(name, note=f"skipped: {skip}")
    except (AssertionError, pytest.fail.Exception) as error:
        yield Row(name, stuck=1, note=f"ended early: {error}"[:_LONGEST_NOTE])


def _network(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    with undisturbed(Site(folder), archive) as installation:
        yield from network_rows(installation, scale.connections, scale.seed)


@contextmanager
def undisturbed(site: Site, archive: Orthanc) -> Iterator[Installation]:
    """Run an installation, and count the documents of a study that no fault disturbs."""
    with installed(site, archive) as installation:
        (study,) = studies = new_studies(1)
        assert installation.modality.send(studies), "the node took no study"
        row = judged(installation, Row("none"), studies)
        assert not row.cost, row
        installation.documents_of_a_study = len(archive.instances_of(study.uid))
        assert installation.documents_of_a_study, "the archive got no document"
        yield installation


def _archives(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    with undisturbed(Site(folder), archive) as installation:
        yield from archive_rows(installation, scale.archive_studies, scale.archive_fault_s)


def _kills(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    times = math.ceil(scale.kills * _SHARE_OF_PROCESSES / len(KILLS))
    with undisturbed(Site(folder), archive) as installation:
        yield from kill_rows(installation, KILLS, times, seed=scale.seed, at_once=scale.kills_at_once)


def _web(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    times, port = math.ceil(scale.kills * _SHARE_OF_WEB), free_port()
    with undisturbed(Site(folder, more=stow.keys(port)), archive) as installation:
        stow.use_stow(installation, port)
        kills = {"node, by STOW-RS": kill_node}
        yield from kill_rows(installation, kills, times, seed=scale.seed, at_once=scale.kills_at_once)


def _database(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    times = math.ceil(scale.kills * _SHARE_OF_DATABASE)
    with postgresql_server() as server:
        site, kills = Site(folder, database=server.create("faults")), {"database": kill_database(server)}
        with undisturbed(site, archive) as installation:
            yield from kill_rows(installation, kills, times, seed=scale.seed, at_once=1)


def _power(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    times = math.ceil(scale.kills * _SHARE_OF_POWER)
    with (
        loop_disk(folder / "data", size_mib=256, names=20_000) as disk,
        undisturbed(Site(folder), archive) as installation,
    ):
        yield power_cuts(installation, disk, times, seed=scale.seed)


def _disks(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    with (
        loop_disk(folder / "data", size_mib=64, names=1000) as disk,
        undisturbed(Site(folder), archive) as installation,
    ):
        yield from disk_rows(installation, disk, scale.disk_fault_s)


def _clocks(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    del scale
    file = folder / "clock"
    site = Site(folder, environment=environment(file), modules=modules(file))
    with undisturbed(site, archive) as installation:
        yield from clock_rows(installation, file)


def _models(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    with undisturbed(models.site(folder), archive) as installation:
        yield from models.model_rows(installation, scale.poison)


def _console(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    del archive
    if not scale.attacks:
        pytest.skip("the console is attacked in the long form alone")
    for number in range(scale.attacks):
        yield from console_rows(folder / str(number))


def _endurance(folder: Path, archive: Orthanc, scale: Scale) -> Iterator[Row]:
    with undisturbed(Site(folder), archive) as installation:
        yield endurance_row(installation, scale.studies, scale.instances)


GROUPS: Final[dict[str, Callable[[Path, Orthanc, Scale], Iterator[Row]]]] = {
    "network": _network,
    "archives": _archives,
    "kills": _kills,
    "web": _web,
    "database": _database,
    "power": _power,
    "disks": _disks,
    "clocks": _clocks,
    "models": _models,
    "console": _console,
    "endurance": _endurance,
}


def header() -> str:
    """Return the first line of the table."""
    return f"{'fault':44}" + "".join(f"{name:>11}" for name in COLUMNS[1:])


def line(row: Row) -> str:
    """Return a row as a line of the table."""
    values = [getattr(row, name) for name in COLUMNS[1:]]
    cells = "".join(f"{value:11.1f}" if isinstance(value, float) else f"{value:11d}" for value in values)
    return f"{row.fault:44}{cells}  {row.note}".rstrip()


def write(path: Path, table: list[Row]) -> None:
    """Write the table as JSON, and beside it as tab-separated values."""
    path.write_text(json.dumps([asdict(row) for row in table], indent=1) + "\n", encoding="utf-8")
    lines = ["\t".join((*COLUMNS, "note"))]
    lines += ["\t".join(str(value) for value in asdict(row).values()) for row in table]
    path.with_suffix(".tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
