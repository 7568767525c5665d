"""Who may read what the node keeps: the user of the node alone, or the members of a group, too."""

import grp
import logging
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError

# Below the data folder: what no group reads.
_OF_THE_USER: Final = frozenset({"audit", "tokens"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Permissions:
    """The permissions of folders and files, and the group that they belong to; None is any group."""

    folder_mode: int = 0o700
    file_mode: int = 0o600
    group_id: int | None = None

    @classmethod
    def of_group(cls, group: str) -> "Permissions":
        """Return the permissions that let a group read, or the user of the node alone if the name is ''.

        Raises: ConfigError if there is no such group, or the user of the node is no member.
        """
        if not group:
            return cls()
        try:
            group_id = grp.getgrnam(group).gr_gid
        except KeyError as error:
            raise ConfigError(f"[node] group: no group is named {group!r}; `groupadd {group}` makes it") from error
        if os.geteuid() and group_id not in {os.getegid(), *os.getgroups()}:
            raise ConfigError(
                f"[node] group: the user of the node is no member of {group!r}; `usermod -aG {group} USER`"
            )
        # Without the bit a new file belongs to the first group of the user. A unit of systemd may forbid the bit.
        inherited = 0 if group_id == os.getegid() else stat.S_ISGID
        return cls(0o750 | inherited, 0o640, group_id)

    def apply_to_process(self) -> None:
        """Let all files that this process and its children make from now on have the permissions.

        A crash leaves no file with the memory of a process, in which images and headers lie.
        """
        os.umask(~self.folder_mode & 0o777)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def apply_to(self, folder: Path) -> None:
        """Give the permissions to a folder and all below it: an earlier version let everybody read.

        A folder below it that has the permissions is not entered, so that a start costs no walk. A folder is changed
        after its content: a walk that was cut off is walked again.
        """
        foreign = list(self._apply(folder, is_entered=True))
        if foreign:
            sentence = "%d files or folders keep permissions that the user of the node may not change (the first is %s)"
            _log.warning(sentence, len(foreign), foreign[0], extra={"action": "not_private"})

    def _apply(self, path: Path, *, is_entered: bool = False) -> Iterator[Path]:
        """Change a file, or a folder and its content; yield the paths that the user of the node may not change."""
        with suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                return
            is_folder = stat.S_ISDIR(status.st_mode)
            mode = self.folder_mode if is_folder else self.file_mode
            is_right = stat.S_IMODE(status.st_mode) == mode and self.group_id in {None, status.st_gid}
            if is_folder and (is_entered or not is_right):
                for child in path.iterdir():
                    permissions = Permissions() if is_entered and child.name in _OF_THE_USER else self
                    yield from permissions._apply(child)  # noqa: SLF001 - of this class
            if not is_right:
                try:
                    self._change(path, mode)
                except PermissionError:
                    yield path

    def _change(self, path: Path, mode: int) -> None:
        if self.group_id is not None:
            os.chown(path, -1, self.group_id)
        path.chmod(mode)
