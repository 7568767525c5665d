"""What the kernel tells of processes (proc(5)): who started whom, and how much memory each holds."""

import os
from pathlib import Path
from typing import Final

_RECEIVER: Final = b"ainode.node.receiving.process"
# utime and stime, counted from the field behind the name of the program.
_CPU_FIELDS: Final = (11, 12)


def process_tree(root: int) -> set[int]:
    """Return the ids of a process and of all processes below it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # the process has ended
        parents[int(stat.parent.name)] = int(fields[1])
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def status_bytes(pid: int, field: str) -> int:
    """Return a memory field of the process's status, 0 where absent."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


def unshared_bytes(pid: int) -> int:
    """Return the resident memory of a process that no other process shares (proc_pid_smaps(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, 0 of one that has ended (proc_pid_stat(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    user, system = (int(fields[place]) for place in _CPU_FIELDS)
    return (user + system) / os.sysconf("SC_CLK_TCK")


def resident_bytes(root: int) -> int:
    """Return the resident memory of a process and all below it; a page that two of them share counts twice."""
    return sum(status_bytes(pid, "VmRSS") for pid in process_tree(root))


def receivers(node: int) -> list[int]:
    """Return the ids of the receiver processes of a node."""
    return [pid for pid in process_tree(node) if _RECEIVER in Path(f"/proc/{pid}/cmdline").read_bytes()]
