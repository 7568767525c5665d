"""Files that a person tries: each trial has a folder and a process of its own, and nothing of the trial is kept.

A trial is read after the trials before it, in a process that gives way to the readers of live studies: what hostile
files do to that process, they do to no live study. Nobody but the owner of a trial learns of the trial.
"""

import json
import logging
import re
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ainode.node import errors
from ainode.node.domain import UID
from ainode.node.errors import NodeError
from ainode.node.offline.trial_question import CONTENT, Stage, TrialOptions, TrialQuestion
from ainode.node.reading.channel import Failure, NotAnAnswer, answer_in
from ainode.node.reading.child import Child
from ainode.node.reading.reader import error_of
from ainode.node.settings import Settings

log = logging.getLogger(__name__)
KEPT_S: Final = 3_600.0
"""how long a trial stays after its last change"""
_MOST: Final = 32
_MOST_OF_OWNER: Final = 8
_PATIENCE_S: Final = 60.0
"""how long a trial waits for live studies; then it is read beside them"""
_LOOK_S: Final = 1.0
# How often the node looks for owners who are gone.
_OWNERS_S: Final = 4.0
_SHOWN_DIGITS: Final = 8
_DOCUMENT: Final = re.compile(r"result/\d{1,4}/[a-z][a-z-]{0,20}(-\d{1,4})?\.(dcm|json|txt|pdf)")


class TrialRefused(NodeError):
    """A trial cannot be begun now, or not so; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class TrialState:
    """How far a trial is."""

    stage: Stage = Stage.UPLOADING
    number: int = 0
    """of the study that is read, from 1"""
    count: int = 0
    received_bytes: int = 0
    length_bytes: int = 0
    """of the upload, 0 where the caller does not tell"""
    error: str = ""


@dataclass(slots=True)
class Trial:
    """One trial; its state is replaced as a whole."""

    identifier: str
    owner: str
    folder: Path
    state: TrialState = field(default_factory=TrialState)
    options: TrialOptions = field(default_factory=TrialOptions)
    names: dict[str, str] = field(default_factory=dict, repr=False)
    """path of an uploaded file in the folder -> the owner's name of the file"""
    kept_studies: tuple[UID, ...] = ()
    """the studies that the node has taken over, once it has"""
    changed_s: float = field(default_factory=time.monotonic)
    is_discarded: bool = False
    is_being_kept: bool = False

    @property
    def is_refused(self) -> bool:
        """Return whether the form was refused, or its files could not be read: nothing is left to look at."""
        return self.state.stage is Stage.FAILED and not self.folder.exists()

    def set(self, **values: Any) -> None:  # noqa: ANN401 - fields of the state
        """Change the state."""
        self.state = replace(self.state, **values)
        self.changed_s = time.monotonic()

    def content(self) -> Mapping[str, Any]:
        """Return what the process wrote: studies, readings, unread files; nothing before the end.

        A trial that waits to be read again has the file of its last reading, which answers another question.
        """
        content: Mapping[str, Any] = {"studies": [], "readings": [], "unread": [], "unread_count": 0}
        if self.state.stage.is_final:
            with suppress(FileNotFoundError):
                content = json.loads((self.folder / CONTENT).read_text("utf-8"))
        return content

    def document(self, name: str) -> Path:
        """Return the path of a document.

        Raises: LookupError if the trial has no such document.
        """
        path = self.folder / name
        if not _DOCUMENT.fullmatch(name) or not path.is_file():
            raise LookupError("the trial has no such document")
        return path

    def shown(self, text: str) -> str:
        """Return a text with the owner's names of the files in place of the paths."""
        return re.sub(r"files(_[23])?/\d{6}(\.[a-z]+)*\b", lambda match: self.names.get(match[0], match[0]), text)


class _Discarded(Exception):
    """The trial that is read is wanted no more."""


class Trials:
    """All trials of a node, and the thread that has one after the other read."""

    def __init__(self, settings: Settings, root: Path, *, mark: str = "", is_busy: Callable[[], bool] = bool) -> None:
        """Start nothing yet; `is_busy` tells whether a live study waits or is read."""
        self._settings, self._root, self._is_busy = settings, root, is_busy
        self._child = Child("ainode.node.offline.trial_process", "trial", mark=mark)
        self._trials: dict[str, Trial] = {}
        self._queue: deque[Trial] = deque()
        self._changed = threading.Condition()
        self._is_stopping = False
        self._is_gone: Callable[[str], bool] = lambda _: False
        self._owners_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name="trials", daemon=True)

    def end_with_owners(self, is_gone: Callable[[str], bool]) -> None:
        """Discard each trial whose owner is gone, also while it is read; call before `start`."""
        self._is_gone = is_gone

    def start(self) -> None:
        """Begin to read what is tried."""
        self._thread.start()

    def stop(self) -> None:
        """End the trial that is read, and remove every trial."""
        with self._changed:
            self._is_stopping = True
            for trial in self._trials.values():
                trial.is_discarded = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        shutil.rmtree(self._root, ignore_errors=True)

    @staticmethod
    def new_identifier() -> str:
        """Return an identifier that nobody guesses, for a form that is not yet sent."""
        return secrets.token_hex(16)

    def open(self, owner: str, identifier: str = "") -> Trial:
        """Make a trial with an empty folder, of an identifier that is new and cannot be guessed.

        Raises: TrialRefused if there are too many trials, or the identifier is in use.
        """
        identifier = identifier or self.new_identifier()
        with self._changed:
            # A form that was refused is corrected and sent again as it is.
            if (before := self._trials.get(identifier)) and before.owner == owner and before.is_refused:
                del self._trials[identifier]
            if not re.fullmatch(r"[0-9a-f]{32}", identifier) or identifier in self._trials:
                raise TrialRefused("the form was sent before; load the page again")
            self._make_room(owner)
            folder = self._root / identifier
            folder.mkdir(mode=0o700, parents=True)
            self._trials[identifier] = trial = Trial(identifier, owner, folder)
        return trial

    def _make_room(self, owner: str) -> None:
        """Forget the oldest trial without files of an owner who has many trials.

        Raises: TrialRefused if the owner, or all owners, have too many trials.
        """
        own = [trial for trial in self._trials.values() if trial.owner == owner]
        without_files = [trial for trial in own if not trial.folder.exists()]
        if without_files and len(own) >= _MOST_OF_OWNER:
            del self._trials[without_files[0].identifier]
        elif len(own) >= _MOST_OF_OWNER or len(self._trials) >= _MOST:
            raise TrialRefused("too many trials are open; discard one, or wait until one expires")

    def of(self, owner: str, identifier: str) -> Trial:
        """Return a trial of its owner.

        Raises: LookupError.
        """
        trial = self._trials.get(identifier)
        if trial is None or trial.owner != owner or trial.is_discarded:
            raise LookupError("there is no such trial: it was discarded, or it expired after an hour")
        return trial

    def all_of(self, owner: str) -> tuple[Trial, ...]:
        """Return the trials of an owner, oldest first."""
        return tuple(trial for trial in list(self._trials.values()) if trial.owner == owner and not trial.is_discarded)

    def read(self, trial: Trial, options: TrialOptions) -> None:
        """Have the files of a trial read, after the trials before it; also a second time, with other options.

        Raises: TrialRefused while the trial is read, or if its files are gone.
        """
        with self._changed:
            if trial.is_being_kept:
                raise TrialRefused("the study is being kept; see its own page")
            if trial.kept_studies:
                raise TrialRefused("the node has kept the study; have the study read on its own page")
            if not trial.folder.exists():
                raise TrialRefused("the files could not be read, and were removed; upload others")
            if trial.state.stage in {Stage.WAITING, Stage.CONVERTING, Stage.READING}:
                raise TrialRefused("the files are being read; wait for the end, or discard them")
            trial.options = options
            trial.set(stage=Stage.WAITING, number=0, count=0, error="")
            self._queue.append(trial)
            self._changed.notify_all()

    def fail(self, trial: Trial, error: str) -> None:
        """Note why the files of a trial are not read, and remove the files; the owner may still ask why."""
        shutil.rmtree(trial.folder, ignore_errors=True)
        trial.set(stage=Stage.FAILED, error=error)

    @contextmanager
    def keeping(self, trial: Trial) -> Iterator[None]:
        """Let nobody else keep a trial, or have it read again, meanwhile.

        Raises: TrialRefused if somebody keeps the trial, or the trial is being read.
        """
        with self._changed:
            if trial.is_being_kept or not trial.state.stage.is_final:
                raise TrialRefused("the study is being read or kept; wait for the end")
            trial.is_being_kept = True
        try:
            yield
        finally:
            trial.is_being_kept = False

    def note_kept(self, trial: Trial, studies: tuple[UID, ...]) -> None:
        """Note the studies that the node took over from a trial, and remove the files; the owner may still ask."""
        with self._changed:
            if trial in self._queue:
                self._queue.remove(trial)
            trial.kept_studies = studies
            trial.set(stage=Stage.KEPT, error="")
        shutil.rmtree(trial.folder, ignore_errors=True)

    def discard(self, trial: Trial) -> None:
        """Remove a trial; the process that reads it ends."""
        with self._changed:
            trial.is_discarded = True
            self._changed.notify_all()
            is_read = trial.state.stage in {Stage.CONVERTING, Stage.READING}
        if not is_read:  # else the thread ends the process first
            self._remove(trial)

    def _remove(self, trial: Trial) -> None:
        with self._changed:
            self._trials.pop(trial.identifier, None)
            if trial in self._queue:
                self._queue.remove(trial)
        shutil.rmtree(trial.folder, ignore_errors=True)

    def _run(self) -> None:
        while trial := self._next():
            try:
                self._read_by_process(trial)
            except _Discarded:
                self._remove(trial)
            except errors.PointRefused as error:  # the files stay: another point may be given
                trial.set(stage=Stage.FAILED, error=trial.shown(str(error)))
            except NodeError as error:
                # The identifier is a secret of its owner: its beginning tells trials apart.
                log.warning("trial %s…: %s", trial.identifier[:_SHOWN_DIGITS], error, extra={"action": "trial_failed"})
                self.fail(trial, trial.shown(str(error)))

    def _read_by_process(self, trial: Trial) -> None:
        """Have a process read a trial; the process has ended at the end, and writes nothing beside who removes files.

        Raises: NodeError; _Discarded.
        """
        try:
            self._wait_for_live_studies(trial)
            self._read(trial)
        finally:
            self._child.kill()

    def _next(self) -> Trial | None:
        """Return the next trial to read, None at the end of the node; remove trials that nobody wants meanwhile."""
        while not self._is_stopping:
            with self._changed:
                if self._queue:
                    return self._queue.popleft()
                self._changed.wait(_OWNERS_S)
            self.remove_expired()
            self._discard_orphans()
        return None

    def _discard_orphans(self) -> None:
        """Discard the trials of owners who are gone, a few seconds after the last look."""
        if time.monotonic() < self._owners_at_s:
            return
        self._owners_at_s = time.monotonic() + _OWNERS_S
        trials = tuple(self._trials.values())
        gone = {owner for owner in {trial.owner for trial in trials} if self._is_gone(owner)}
        for trial in trials:
            if trial.owner in gone:
                self.discard(trial)

    def remove_expired(self) -> None:
        """Remove each trial that changed more than `KEPT_S` ago."""
        deadline_s = time.monotonic() - KEPT_S
        for trial in [trial for trial in self._trials.values() if trial.changed_s < deadline_s]:
            self._remove(trial)

    def _wait_for_live_studies(self, trial: Trial) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s and self._is_busy():
            with self._changed:
                self._changed.wait(_LOOK_S)
            self._discard_orphans()
            self._refuse_discarded(trial)

    def _refuse_discarded(self, trial: Trial) -> None:
        if trial.is_discarded:
            raise _Discarded

    def _read(self, trial: Trial) -> None:
        """Let the process read a trial, and note each of its steps.

        Raises: NodeError; _Discarded.
        """
        for part in ("converted", "result"):
            shutil.rmtree(trial.folder / part, ignore_errors=True)
        (trial.folder / CONTENT).unlink(missing_ok=True)
        limit_s = self._settings.reader.time_limit_s
        begun_s = time.monotonic()

        def refuse_overdue() -> None:
            self._discard_orphans()
            self._refuse_discarded(trial)
            if time.monotonic() - begun_s > limit_s:
                raise errors.ReaderTimeout(f"it took longer than {limit_s:g} s ([reader] time_limit_s); send less")
            limit_bytes = self._settings.reader.memory_limit_bytes
            if self._child.exceeds(limit_bytes):
                raise errors.ReaderDied(f"it took more than {limit_bytes} bytes of memory; send less")

        try:
            channel = self._child.start()
            channel.send(TrialQuestion(trial.folder, self._settings, trial.options), refuse_overdue)
            while trial.state.stage is not Stage.DONE:
                trial.set(**_state_of(answer_in(channel.receive(refuse_overdue))))
                begun_s = time.monotonic()
        except NotAnAnswer as error:
            raise errors.HandlerError("the process that read the files sent no answer; update ainode") from error
        except (EOFError, OSError) as error:
            code = self._child.kill()
            raise errors.ReaderDied(
                f"the process that read the files ended with code {code}; try again, or send fewer files"
            ) from error


def _state_of(answer: object) -> Mapping[str, Any]:
    """Return the changes of a state that a step of the process means.

    Raises: NodeError if the step is a failure, or none.
    """
    if isinstance(answer, Failure):
        raise error_of(answer)
    match answer:
        case {"stage": str(stage), "number": int(number), "count": int(count)} if stage in set(Stage):
            return {"stage": Stage(stage), "number": number, "count": count}
    raise errors.HandlerError("the process that read the files sent no step; update ainode")
