"""How a site's program is started: an executable beside copies of its files, or an image in a container."""

import shutil
from functools import cached_property
from pathlib import Path
from typing import Final

from ainode.handlers.program.description import Start
from ainode.node.reading import containers, executables, interpreters
from ainode.node.reading.confinement import refuse_unless_confinable
from ainode.node.reading.containers import Container
from ainode.node.reading.described import DESCRIPTION, DescribedModel
from ainode.node.reading.program_words import Hear
from ainode.node.reading.sight import refuse_powerless_root
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.reading.workplace import Workplace

_FOLDERS: Final = {"mercure": ("/tmp/data", "/tmp/output"), "ainode": ("/in", "/out")}  # noqa: S108 - of a container
_VARIABLES: Final = {
    "mercure": ("MERCURE_IN_DIR", "MERCURE_OUT_DIR"),
    "ainode": ("AINODE_IN_DIR", "AINODE_OUT_DIR"),
}
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Runner:
    """Starts the program of a description, whose files are compared with it before each start."""

    def __init__(self, environment: ModelEnvironment, model: DescribedModel, start: Start) -> None:
        """Find the engine of a container.

        Raises: ConfigError if the engine is missing, this process cannot confine an executable and end it, or the
        interpreter of a script is not for the user of programs.
        """
        self._environment, self._model, self._start = environment, model, start
        self._engine = ""
        if start.form != "executable":
            self._engine = containers.engine_named(start.engine)
        else:
            refuse_unless_confinable(allows_unconfined=environment.allows_unconfined)
            refuse_powerless_root()
            interpreters.refuse_unusable(model.entry.path, {**_ENVIRONMENT, **start.environment}["PATH"])

    def program(self) -> str:
        """Return the identifier of the program's image, which is loaded, or the sha256 of its file.

        Raises: WeightsError, ConfigError, HandlerError.
        """
        if self._start.form == "executable":
            self._environment.weights.verified(self._model.name)
            return self._model.entry.sha256
        archive = self._model.entry.path if self._start.form == "archive" else None
        containers.make_ready(self._engine, self._image, archive)
        return self._image

    def run(self, place: Workplace) -> str:
        """Run the program in its folders; return what `program` returns.

        Raises: HandlerError, ConfigError, WeightsError.
        """
        identifier = self.program()
        if self._start.form == "executable":
            self._run_executable(place)
        else:
            self._run_container(identifier, place)
        return identifier

    def _run_executable(self, place: Workplace) -> None:
        start = self._start
        paths = dict(zip(_VARIABLES[start.layout], (str(place.inputs), str(place.answer)), strict=True))
        command = (str(self._copied(place)), *start.command)
        data = (self._environment.models or self._model.folder).parent
        variables = {**_ENVIRONMENT, **start.environment, **paths}
        executables.run(command, variables, place, start.limits, data, self._hear)

    def _run_container(self, image: str, place: Workplace) -> None:
        start, folders = self._start, _FOLDERS[self._start.layout]
        paths = dict(zip(_VARIABLES[start.layout], folders, strict=True))
        container = Container(
            image,
            start.command,
            *folders,
            is_input_writable=start.layout == "mercure",
            environment={**start.environment, **paths},
        )
        containers.run(self._engine, container, place, start.limits, self._hear)

    @property
    def _hear(self) -> Hear | None:
        """Return what keeps the program's words for the person who runs a command; None under `ainode serve`."""
        words = self._environment.words
        return None if words is None else words.write_bytes

    @cached_property
    def _image(self) -> str:
        """The identifier of the image, by a file that is compared once: an archive of an image has gigabytes.

        What the identifier names cannot change.

        Raises: WeightsError, ConfigError.
        """
        path = self._environment.weights.verified(self._model.name)
        if self._start.form == "archive":
            return containers.image_of_archive(path)
        return containers.image_named_in(path)

    def _copied(self, place: Workplace) -> Path:
        """Return the executable's copy, beside copies of what belongs to it: a program reads no file of the node."""
        entry, folder = self._model.entry, place.folder / "program"
        folder.mkdir()
        for path, _ in ((entry.path, entry.sha256), *entry.companions):
            if path.name != DESCRIPTION:
                target = folder / path.relative_to(self._model.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)  # whatever the node's umask says
        return folder / entry.path.relative_to(self._model.folder)
