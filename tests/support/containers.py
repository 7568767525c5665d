"""Containers as the tests run them: of images that they build from a folder, so that no registry is asked."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest


def podman(*arguments: str) -> str:
    """Run podman; return what it prints."""
    answer = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def make_podman_ready(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Skip where podman is missing; let it start containers by runc where that is there."""
    if not shutil.which("podman"):
        pytest.skip("podman is missing")
    if shutil.which("runc"):  # crun refuses a machine with cgroups of both versions
        (folder / "containers.conf").write_text('[engine]\nruntime = "runc"\n', encoding="ascii")
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))


def image_of_folder(root: Path, *instructions: str) -> str:
    """Return the identifier of an image whose root is a folder; `instructions` are lines of a Dockerfile."""
    tar_path = root.with_suffix(".tar")
    with tarfile.open(tar_path, "w") as tar:
        tar.add(root, "/")
    changes = [word for line in instructions for word in ("--change", line)]
    return podman("import", "--quiet", *changes, str(tar_path))
