"""Instance files, as a maildir: `tmp/` being written, `new/` answered but not indexed, `kept/` indexed; `damaged/`.

A file is renamed into `new/` once it is whole, and its sender is answered once both its bytes and its name are on disk.
Names are made of a time and digests: no UID, title or header value reaches a path.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ainode.node.disk import make_folder, refuse_full, sync_folder
from ainode.node.domain import UID, InstanceRef
from ainode.node.encoding.dataset_scan import identity
from ainode.node.encoding.file_content import FileContent
from ainode.node.encoding.part10 import Origin, head, parse
from ainode.node.errors import CannotUnderstand, DataSetMismatch, OutOfResources
from ainode.node.keeping.shared_sync import SharedSync

# Of 1 MB each instance got a new mapping, which cost more than the digest.
_BLOCK_BYTES: Final = 1 << 16
# So much of an instance is written between two looks at the room on the disk.
_LOOK_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """When to refuse: the disk's watermark, and the longest data set."""

    min_free_bytes: int
    max_object_bytes: int


@dataclass(frozen=True, slots=True)
class Spooled:
    """A file of the spool: where it is and what it holds."""

    path: Path
    ref: InstanceRef
    transfer_syntax_uid: UID
    calling_ae_title: str
    size_bytes: int


class Spool:
    """The folder of received instances: receivers put in, one indexer takes out."""

    def __init__(self, root: Path, limits: Limits, *, writing: str = "tmp") -> None:
        """Make the folders; each process that puts in has a folder to write in of its own."""
        self.root, self.limits = root, limits
        self._tmp, self._new, self._kept = root / writing, root / "new", root / "kept"
        self._damaged = root / "damaged"
        for folder in (self._tmp, self._new, self._kept):
            make_folder(folder)
        self._names = SharedSync(partial(sync_folder, self._new))

    def sweep(self) -> None:
        """Remove what a killed receiver left half written; none may be running."""
        for path in self._tmp.iterdir():
            path.unlink()

    def incoming(self, origin: Origin) -> "Incoming":
        """Return a new file for an instance that is about to arrive.

        Raises: OutOfResources if the disk is below its watermark.
        """
        refuse_full(self._tmp, self.limits.min_free_bytes)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.dcm"
        return Incoming(origin, self._tmp / name, self._new / name, limits=self.limits, names=self._names)

    def unindexed(self) -> list[Path]:
        """Return the files that were answered and not indexed, oldest first."""
        return sorted(self._new.iterdir())

    def unlisted(self, studies: Iterable[UID]) -> list[Path]:
        """Return the kept files of every study but these, oldest first: of two versions the later comes last."""
        names = {_digest(uid) for uid in studies}
        folders = [folder for folder in self._kept.iterdir() if folder.name not in names and folder.is_dir()]
        return sorted((path for folder in folders for path in folder.iterdir()), key=lambda path: path.stat().st_mtime)

    def set_aside(self, path: Path) -> Path:
        """Move a damaged file where nobody reads it, and where a person finds it; return its new path.

        Raises: OSError.
        """
        self._damaged.mkdir(exist_ok=True)
        return path.replace(self._damaged / path.name)

    def damaged(self) -> list[Path]:
        """Return the files that were set aside."""
        return sorted(self._damaged.iterdir()) if self._damaged.exists() else []

    def kept_path(self, ref: InstanceRef, sha256: str) -> Path:
        """Return where `keep` puts the instance; other bytes for the same instance have another path."""
        study, instance = _digest(ref.study_instance_uid), _digest(ref.sop_instance_uid)
        return self._kept / study / f"{instance}-{sha256[:16]}.dcm"

    def destination(self, file: Spooled, sha256: str) -> Path:
        """Return where `keep` puts a file with these bytes.

        Raises: CannotUnderstand if it is a kept file, and the digest in its name is not that of its bytes.
        """
        path = self.kept_path(file.ref, sha256)
        if file.path.parent.parent == self._kept and file.path.name != path.name:
            raise CannotUnderstand("its bytes are not those that were received; send the study again")
        return path

    def keep(self, path: Path, ref: InstanceRef, sha256: str) -> Path:
        """Move an indexed file out of `new/`; a second call does nothing.

        Commit the catalog first: after a crash in between, `unindexed` returns the file again. So no fsync is needed.
        """
        target = self.kept_path(ref, sha256)
        target.parent.mkdir(exist_ok=True)
        try:
            path.replace(target)
        except FileNotFoundError:
            if not target.exists():
                raise
        return target

    def remove_study(self, study_instance_uid: UID) -> None:
        """Remove every kept file of the study."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._kept / _digest(study_instance_uid))


class Incoming:
    """One instance on its way to the disk; leaving the context without `commit` removes it."""

    def __init__(self, origin: Origin, path: Path, destination: Path, *, limits: Limits, names: SharedSync) -> None:
        """Write the meta group."""
        self._origin, self._path, self._destination, self._limits = origin, path, destination, limits
        self._names, self._committed = names, False
        meta = head(origin)
        self._start = self.size_bytes = len(meta)
        self._unlooked_bytes = 0
        with _disk():
            self._file = path.open("x+b", buffering=0)
            self._append(memoryview(meta))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._committed:
            self._path.unlink()

    def write(self, fragment: memoryview) -> None:
        """Append a fragment of the data set.

        Raises: OutOfResources if the object is too large or the disk below its watermark.
        """
        self.size_bytes += len(fragment)
        self._unlooked_bytes += len(fragment)
        if self.size_bytes - self._start > self._limits.max_object_bytes:
            raise OutOfResources("object is larger than node.max_object_bytes")
        if self._unlooked_bytes > _LOOK_BYTES:
            refuse_full(self._path, self._limits.min_free_bytes)
            self._unlooked_bytes = 0
        with _disk():
            self._append(fragment)

    def _append(self, content: memoryview) -> None:
        """Write all of the content: a disk that is nearly full takes a part, and fails at the rest."""
        while content:
            content = content[self._file.write(content) :]

    def ref(self) -> InstanceRef:
        """Return whose data set was written.

        Raises: CannotUnderstand, and DataSetMismatch if the association announced another one; OutOfResources if the
        disk cannot read it back.
        """
        if self.size_bytes == self._start:
            raise CannotUnderstand("data set is empty")
        with _disk():
            content = FileContent(self._file.fileno())
            ref = identity(content, self._origin.transfer_syntax_uid, start=self._start)
        if ref.sop_class_uid != self._origin.sop_class_uid:
            raise DataSetMismatch("SOP Class UID differs from that of the C-STORE request")
        if ref.sop_instance_uid != self._origin.sop_instance_uid:
            raise DataSetMismatch("SOP Instance UID differs from that of the C-STORE request")
        return ref

    def commit(self) -> Path:
        """Return the path in `new/`, once bytes and name are on disk.

        Both are flushed at the same time, in the time of one: a disk answers two flushes no later than one. The names
        of all associations that wait are flushed at once. If the power fails before, a damaged file may have got its
        name; nobody was promised it, and it is set aside.

        Raises: OutOfResources if the disk does not take them.
        """
        with _disk():
            self._path = self._path.rename(self._destination)
            name_on_disk = self._names.request()
            os.fdatasync(self._file.fileno())
            name_on_disk.result()
        self._committed = True
        return self._path


def spooled(path: Path) -> Spooled:
    """Return what a file of the spool holds.

    Raises: CannotUnderstand if it is damaged.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise CannotUnderstand("file is empty")
        content = FileContent(file.fileno())
        origin, start = parse(content)
        ref = identity(content, origin.transfer_syntax_uid, start=start)
    return Spooled(path, ref, origin.transfer_syntax_uid, origin.calling_ae_title, size)


def content_sha256(path: Path) -> str:
    """Return the digest of the data set as received, without the meta group, which also names the sender."""
    digest = hashlib.sha256()
    block = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        _, start = parse(file.read(4096))
        file.seek(start)
        while size := file.readinto(block):
            digest.update(block[:size])
    return digest.hexdigest()


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    """Say a failing disk in the sender's terms."""
    try:
        yield
    except OSError as error:
        raise OutOfResources(f"disk: {error.strerror}; send again later") from error
