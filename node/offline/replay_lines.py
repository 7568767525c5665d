"""The command `ainode replay`: the last job of a study is read once more, and the differences are told in lines."""

import math
from pathlib import Path

from ainode.node.domain import UID
from ainode.node.keeping import database
from ainode.node.keeping.catalog import Catalog
from ainode.node.keeping.data_folder import refuse_another
from ainode.node.keeping.ledger import Ledger
from ainode.node.offline.readings import reading_of
from ainode.node.offline.replays import comparison, replayed_request
from ainode.node.reading.weights import environment
from ainode.node.settings import Settings


def replay(study_instance_uid: str, settings: Settings, weights: Path | None) -> tuple[bool, list[str]]:
    """Read the last job of a study again and send nothing.

    Return whether all documents have the same bytes, and a line for each score, with its old and its new value.

    Raises: LookupError if the study has no finished job; ConfigError if its route was removed, or the files of the
    database are in another folder.
    """
    engine = database.existing(settings.database_url)
    refuse_another(engine, settings.data)
    ledger, catalog = Ledger(engine), Catalog(engine)
    finished = [job for job in ledger.jobs(study=UID(study_instance_uid)) if job.result]
    if not finished:
        raise LookupError(f"study {study_instance_uid}: nothing was read here; see `ainode jobs`")
    job = finished[-1]
    request = replayed_request(job, settings, ledger, catalog)
    reading = reading_of(request, job.handler, environment(settings, weights), settings.reader)
    compared = comparison(job, ledger.documents(job.id), reading)
    lines = [f"study {study_instance_uid}, route {job.route}, job {job.id}"]
    lines += [
        f"  {name}: {math.nan if old is None else old:.6f} -> {math.nan if new is None else new:.6f}"
        for name, old, new in compared.scores
    ]
    lines.append(f"documents: {compared.identical_count} of {len(compared.documents)} byte-identical")
    return compared.is_same, lines
