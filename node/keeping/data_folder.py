"""Which data folder a database is of: its rows name the files of documents and instances by their whole paths."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from ainode.node.errors import ConfigError
from ainode.node.keeping.schema import documents, instances

_FOLDERS: Final = frozenset({"documents", "spool"})


def refuse_another(engine: sa.Engine, data: Path) -> None:
    """Return if the files of a database are below `data`, or if it names none yet.

    A file of each kind speaks for all, since no process works with a database that this refuses. A path that leads
    below `data` by a symbolic link is of `data`.

    Raises: ConfigError, such as for a back-up that was restored into another folder; DatabaseUnavailable.
    """
    with engine.connect() as connection:
        for column in (documents.c.path, instances.c.path):
            name = connection.execute(sa.select(column).where(column.startswith("/")).limit(1)).scalar()
            if name and not Path(name).resolve().is_relative_to(data.resolve()):
                former = next((folder.parent for folder in Path(name).parents if folder.name in _FOLDERS), name)
                raise ConfigError(
                    f"[node] data: the files of the database lie in {former}, and not in {data}: its rows name them by "
                    f"the whole path; put the data folder back there, or make {former} a symbolic link to {data}"
                )
