"""The reader process that the kit asks: it starts as the node's readers start, under the limits of [reader]."""

import dataclasses
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ainode.node.domain import OutOfScope, Reading, Request, Result
from ainode.node.errors import BrokenSeries, NodeError
from ainode.node.offline import inputs
from ainode.node.offline import readings as offline
from ainode.node.reading import family
from ainode.node.reading.reader import Reader
from ainode.node.reading.verification import verified
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.routes import Route
from ainode.node.settings import Settings


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one reading: a reading, or the error that ended the attempt."""

    reading: Reading | None = None
    error: NodeError | None = None
    seconds: float = 0.0
    """by the clock, the start of the process included where the process did not run"""

    @property
    def answer(self) -> Result | OutOfScope | None:
        """Return the answer, None after an error."""
        return self.reading.answer if self.reading else None

    @property
    def is_refused(self) -> bool:
        """Return whether the handler refused the study in words."""
        return isinstance(self.answer, OutOfScope)

    @property
    def words(self) -> str:
        """Return the answer in a line."""
        if self.reading is None:
            return f"{type(self.error).__name__}: {self.error}"
        answer = self.reading.answer
        if isinstance(answer, OutOfScope):
            return f"refused ({answer.code}): {answer.reason}"
        return offline.verdict(self.reading)


class Prover:
    """Reads studies with one handler in a reader process."""

    def __init__(self, handler: str, settings: Settings, models: ModelEnvironment) -> None:
        """Start no process yet."""
        self.settings, self._handler, self._models = settings, handler, models
        self._mark = f"{secrets.token_hex(8)}."
        self._reader = self._new_reader()

    def _new_reader(self) -> Reader:
        return Reader(self._handler, self._models, self.settings.reader, mark=self._mark)

    def read(self, paths: Sequence[Path], *, is_shuffled: bool = False) -> Attempt:
        """Return what the handler says of the one study in these files; `is_shuffled` hands them over in no order."""
        started = time.monotonic()
        try:
            request = self._request(paths, is_shuffled=is_shuffled)
            with verified(request):
                reading = self._reader.read(request)
        except NodeError as error:
            return Attempt(error=error, seconds=time.monotonic() - started)
        return Attempt(reading, seconds=time.monotonic() - started)

    def _request(self, paths: Sequence[Path], *, is_shuffled: bool) -> Request:
        """Return the request for the one study in these files.

        Raises: BrokenSeries if the files are not of one study, or one is not read.
        """
        studies, unread = inputs.dicom_studies(paths, self.settings)
        if unread:
            raise BrokenSeries(f"{len(unread)} files are not read, of the first: {unread[0].reason}")
        if len(studies) != 1:
            raise BrokenSeries(f"the files are of {len(studies)} studies")
        route = Route(name=self._handler, handler=self._handler, report_out_of_scope=True)
        request = offline.request_for(studies[0], route, self.settings)
        if not is_shuffled:
            return request
        files = list(request.files)
        random.Random(len(files)).shuffle(files)  # noqa: S311 - an order, and no secret
        return dataclasses.replace(request, files=tuple(files[::-1]))

    def peak_bytes(self) -> int:
        """Return the most memory that the process and what it started have taken since the process began."""
        return family.peak_bytes(self._mark)

    def end(self) -> None:
        """End the process; the next reading starts another one."""
        self._reader.kill_unless_reading()
        self._reader = self._new_reader()
