"""A console whose node has the study of each model, an archive that has the answers, and an archive that is away."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ainode.node import testing
from ainode.node.archive.dimse import Link
from ainode.node.archive.store import Outgoing, send
from ainode.node.domain import UID
from ainode.node.reading import registry
from ainode.node.reading.weights import environment
from ainode.node.settings import Peer, load
from support.console import Console, add_persons, console, web_tables
from support.node import configured, running, self_tests_of, shipped_routes
from support.servers import Orthanc, free_port, orthanc


@dataclass(frozen=True)
class Hospital:
    """A console, its archive, and the study of each model."""

    console: Console
    archive: Orthanc
    away: Peer
    """an archive that is switched off"""
    studies: dict[str, UID]


@contextmanager
def opened(folder: Path) -> Iterator[Hospital]:
    """Start an archive and a node, and have the synthetic study of each model read."""
    port, tables = web_tables('patient = "full"\naddendum = "assessment"')
    away = Peer(name="away", ae_title="AWAY", host="127.0.0.1", port=free_port())
    routes = shipped_routes(*(name for name in registry.names() if name != "skin_lesion"))
    routes = routes.replace("DESTINATIONS", '["orthanc"]') + shipped_routes("skin_lesion")
    with orthanc(folder / "archive") as archive:
        peers = [archive.peer, away]
        more = f"{tables}\n\n[delivery]\nattempts = 1\n\n{self_tests_of('spine-radiograph')}"
        node = configured(folder / "node", peers=peers, routes=routes, more=more)
        with running(node), console(node, port) as pages:
            add_persons(node)
            studies = {name: sent(name, pages, folder / "sent") for name in registry.names()}
            for study in studies.values():
                node.read(study, within_s=300)
            yield Hospital(pages, archive, away, studies)


def sent(name: str, pages: Console, folder: Path) -> UID:
    """Send the synthetic study of a model; return its Study Instance UID."""
    study = f"console of {name}"
    example = registry.handler(name, environment(load(pages.node.config))).demonstration(0)
    paths = testing.write(example.images, folder / name, study=study, positions_mm=example.positions_mm)
    assert not any(answer.error for answer in send(Link(pages.node.peer, "MODALITY"), map(Outgoing.of, paths)))
    return UID(testing.uid(study))


def every_page(hospital: Hospital) -> dict[str, str]:
    """Return the address of every page by a name: the pages named here, and each kind of page that a page links to."""
    pages = addresses(hospital)
    kinds = {kind_of(address) for address in pages.values()}
    page = hospital.console.person("administrator")
    pending = [*pages.values()]
    while pending:
        page.goto(pending.pop())
        for link in page.evaluate("[...document.querySelectorAll('a[href^=\"/console/\"]')].map((a) => a.href)"):
            kind = kind_of(link)
            if kind not in kinds and not re.search(r"\.[a-z]+$", kind):  # a file
                kinds.add(kind)
                pages[kind.strip("/").replace("/", "-")] = link
                pending.append(link)
    page.context.close()
    return pages


def kind_of(address: str) -> str:
    """Return the path of an address without what tells a study, a model, a job or a document from another."""
    path = re.sub(r"/models/[^/]+", "/models/MODEL", urlsplit(address).path)
    return re.sub(r"/([0-9]+(\.[0-9]+)+|[0-9a-f]{32})(?=/|$)", "/ID", path)


def addresses(hospital: Hospital) -> dict[str, str]:
    """Return the address of every page by a name for its picture."""
    study = hospital.studies["lung_nodule"]
    return {
        "worklist": "/console/",
        "study": f"/console/studies/{study}",
        "unread": "/console/unread",
        "routes": "/console/routes",
        "route-tester": "/console/routes/test",
        "route-change": "/console/routes/change",
        "explanation": f"/console/studies/{study}/explanation",
        "system": "/console/system",
        "failures": "/console/system/failures",
        "records": "/console/system/records",
        "configuration": "/console/system/configuration",
        "self-test": "/console/system/test",
        "models": "/console/models",
        "model": "/console/models/lung_nodule",
        "live": "/console/models/lung_nodule/live",
        "compare": "/console/compare",
        "answers": "/console/answers",
        "judgements": "/console/judgements",
        "try": "/console/trials",
        "persons": "/console/persons",
        "password": "/console/password",
    }
