"""A filter of system calls (seccomp(2)): no socket, no memory or message that outlives the process that made it.

No process of others is reached, and, where wished, none is started.

A filter needs no right of an administrator and no namespace, so it holds in a container and under systemd, too.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

# linux/prctl.h, linux/seccomp.h
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
# linux/bpf_common.h: load a word, jump if equal, at least, or sharing a bit, return.
_LOAD, _EQUAL, _AT_LEAST, _SHARES_A_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Offsets in struct seccomp_data: the number of the call, the architecture, the low half of the first argument.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _ARGUMENT_BYTES = 0, 4, 16, 8
# linux/audit.h: AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64.
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Calls of the x32 ABI begin there: the same calls under other numbers.
_X32: Final = 0x40000000
_CLONE_THREAD: Final = 0x00010000
# linux/sched.h, CLONE_NEW*: mounts, groups of control, names of the host, System V, users, processes, network.
_NAMESPACES: Final = 0x7E020000
_MACHINES: Final = ("x86_64", "aarch64")

# Numbers on x86-64 and arm64 (arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h); None: no such call.
_REFUSED: Final[dict[str, tuple[int | None, int]]] = {
    "socket": (41, 198),
    "io_uring_setup": (425, 425),  # opens sockets that no filter sees
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "open_by_handle_at": (304, 265),
    # Files in memory, which no limit of memory or of the disk counts.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # What happens in a folder that the process may not list.
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    # Memory, messages and semaphores of System V and queues of POSIX stay when their maker has ended: the next study's
    # process would find there what an earlier one left.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}
# A file's mode, owner, attributes and times, which Landlock does not guard.
_FEIGNED: Final[dict[str, tuple[int | None, int | None]]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}
_OF_PROCESSES: Final[dict[str, tuple[int | None, int | None]]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
}
# Calls that reach other processes of the user, but for these first arguments; what else they ask is refused.
_REFUSED_BUT_FOR: Final[dict[str, tuple[tuple[int, int], tuple[int, ...]]]] = {
    "prlimit64": ((302, 261), (0,)),
    "setpriority": ((141, 140), (0, 0)),  # of a process, this one
    "ioprio_set": ((251, 30), (1, 0)),
}
# A process sets these for its other threads, too, and their numbers are not known here: the C library starts no thread
# whose cores it cannot set.
_FEIGNED_BUT_FOR: Final[dict[str, tuple[tuple[int, int], tuple[int, ...]]]] = {
    "sched_setaffinity": ((203, 122), (0,)),
    "sched_setscheduler": ((144, 119), (0,)),
    "sched_setparam": ((142, 118), (0,)),
    "sched_setattr": ((314, 274), (0,)),
}
_CLONE, _CLONE3, _SOCKETPAIR = (56, 220), (435, 435), (53, 199)
# linux/socket.h, linux/net.h: AF_UNIX; what all types but SOCK_STREAM have a bit of. The end of a pair of datagrams
# sends to any socket of the machine that has a name.
_AF_UNIX, _OTHER_THAN_A_STREAM = 1, 0xE


def is_available() -> bool:
    """Return whether this kernel takes a filter, and this processor's calls are known here."""
    return platform.machine() in _MACHINES and Path("/proc/sys/kernel/seccomp/actions_avail").exists()


def gain_no_privileges() -> None:
    """Let no program that this process starts gain a privilege, such as by its set-user-ID bit.

    Raises: OSError.
    """
    _control(_PR_SET_NO_NEW_PRIVS, 1, 0)


def refuse(*, processes: bool) -> None:
    """Refuse sockets, what outlives this process, and calls that reach into other processes or the kernel.

    With `processes`, new processes are refused too.

    A refused call fails with EPERM; threads are allowed, a process in another namespace is not. A change of a file's
    mode, owner, attributes or times, or of how another process or thread is scheduled, is answered with success and
    changes nothing: programs that copy files, and libraries with threads, ask for them. `gain_no_privileges` comes
    first.

    Raises: OSError.
    """
    code = b"".join(_filter(_MACHINES.index(platform.machine()), processes=processes))
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(instructions))
    _control(_PR_SET_SECCOMP, _MODE_FILTER, program)


def _filter(machine: int, *, processes: bool) -> Iterator[bytes]:
    """Yield the instructions of a filter (struct sock_filter)."""
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_EQUAL, _ARCHITECTURES[_MACHINES[machine]], if_true=1)
    yield _refusal(errno.EPERM)
    yield _instruction(_LOAD, _NUMBER)
    yield _instruction(_AT_LEAST, _X32, if_false=1)
    yield _refusal(errno.EPERM)
    for numbers in (*_REFUSED.values(), *(_OF_PROCESSES.values() if processes else ())):
        if (number := numbers[machine]) is not None:
            yield _instruction(_EQUAL, number, if_false=1)
            yield _refusal(errno.EPERM)
    for numbers in _FEIGNED.values():
        if (number := numbers[machine]) is not None:
            yield _instruction(_EQUAL, number, if_false=1)
            yield _refusal(0)
    for calls, error in ((_REFUSED_BUT_FOR, errno.EPERM), (_FEIGNED_BUT_FOR, 0)):
        for pair, arguments in calls.values():
            yield from _only_for(pair[machine], arguments, _refusal(error))
    yield _instruction(_EQUAL, _SOCKETPAIR[machine], if_false=6)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    yield _instruction(_EQUAL, _AF_UNIX, if_false=2)
    yield _instruction(_LOAD, _FIRST_ARGUMENT + _ARGUMENT_BYTES)
    yield _instruction(_SHARES_A_BIT, _OTHER_THAN_A_STREAM, if_false=1)
    yield _refusal(errno.EPERM)
    yield _instruction(_RETURN, _ALLOW)
    # The C library takes `clone` where `clone3` is absent: a filter cannot read the arguments of `clone3`.
    yield _instruction(_EQUAL, _CLONE3[machine], if_false=1)
    yield _refusal(errno.ENOSYS)
    yield _instruction(_EQUAL, _CLONE[machine], if_false=3)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    if processes:
        yield _instruction(_SHARES_A_BIT, _CLONE_THREAD, if_true=1)
    else:
        yield _instruction(_SHARES_A_BIT, _NAMESPACES, if_false=1)
    yield _refusal(errno.EPERM)
    yield _instruction(_RETURN, _ALLOW)


def _only_for(number: int, arguments: Sequence[int], refusal: bytes) -> Iterator[bytes]:
    """Yield instructions that allow a call with these first arguments alone."""
    yield _instruction(_EQUAL, number, if_false=3 * len(arguments) + 1)
    for place, argument in enumerate(arguments):
        yield _instruction(_LOAD, _FIRST_ARGUMENT + _ARGUMENT_BYTES * place)
        yield _instruction(_EQUAL, argument, if_true=1)
        yield refusal
    yield _instruction(_RETURN, _ALLOW)


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refusal(error: int) -> bytes:
    return _instruction(_RETURN, _ERROR | error)


def _control(option: int, value: int, argument: bytes | int) -> None:
    """Call prctl(2).

    Raises: OSError.
    """
    library = ctypes.CDLL(None, use_errno=True)
    last = (0, 0) if isinstance(argument, int) else ()
    if library.prctl(option, value, argument, *last) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
