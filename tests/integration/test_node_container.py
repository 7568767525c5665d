"""The node in a container as the composition runs it: the image's user, a root that nobody writes, a volume of data.

The image has the instructions of the Dockerfile and the files of this machine, mounted read-only: no registry is asked.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from support import installed, program
from support.containers import image_of_folder, make_podman_ready, podman
from support.node import ROOT

from ainode.node import testing
from ainode.node.reading import registry
from ainode.node.reading.weights import environment
from ainode.node.settings import Settings, load

NODE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yml").read_text(encoding="utf-8"))["services"]["node"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
# `podman import` takes one variable a line.
OF_THE_IMAGE = [
    *re.findall(r"^(?:USER|VOLUME|ENTRYPOINT|CMD) .+$", DOCKERFILE, flags=re.MULTILINE),
    *(f"ENV {word}" for line in re.findall(r"^ENV (.+)$", DOCKERFILE, flags=re.MULTILINE) for word in line.split()),
]
VENV = Path("/mnt/venv")
USER_ID = 1000
ORTHANC = {
    "StorageDirectory": "/tmp/orthanc",  # noqa: S108 - of the container
    "IndexDirectory": "/tmp/orthanc",  # noqa: S108
    "DicomAet": "ORTHANC",
    "DicomPort": 4242,
    "HttpPort": 8042,
    "AuthenticationEnabled": False,
}
LIMIT_S = 120


@dataclass(frozen=True)
class Container:
    """A running container."""

    name: str

    def run(self, *command: str) -> str:
        """Run a command in the container as its user; return what it prints."""
        return podman("exec", self.name, *command)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < end, self.log()
            time.sleep(0.2)

    def log(self) -> str:
        """Return what the node has said."""
        done = subprocess.run(["podman", "logs", self.name], capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    def modalities(self) -> list[str]:
        """Return the modalities of the series in the Orthanc of the container."""
        call = "import urllib.request as r; print(r.urlopen('http://orthanc:8042/series?expand').read().decode())"
        series = json.loads(self.run(f"{VENV}/bin/python", "-c", call))
        return sorted(entry["MainDicomTags"]["Modality"] for entry in series)


def make_root(root: Path) -> None:
    """Make the root of an image: links into /usr, a user, and the programs of /opt/venv, which are those of VENV."""
    for name in ("etc", "home/ainode", "mnt", "opt/ainode", "opt/venv/bin", "tmp", "usr", "var/lib/ainode"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc" / "passwd").write_text(f"ainode:x:{USER_ID}:{USER_ID}::/home/ainode:/bin/sh\n", encoding="ascii")
    (root / "etc" / "group").write_text(f"ainode:x:{USER_ID}:\n", encoding="ascii")
    shutil.copy("/usr/share/zoneinfo/UTC", root / "etc" / "localtime")  # Orthanc asks for it
    command = root / "opt" / "venv" / "bin" / "ainode"
    command.write_text(f'#!/bin/sh\nexec {VENV}/bin/python -m ainode.node.commands.cli "$@"\n', encoding="ascii")
    (command.parent / "python").symlink_to(VENV / "bin" / "python")
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    data = root / "var" / "lib" / "ainode"
    data.chmod(0o700)
    shutil.chown(data, USER_ID, USER_ID)


def options() -> list[str]:
    """Return the options of `podman run`: what the composition says of the node, and the files of this machine."""
    assert NODE["read_only"]
    assert NODE["volumes"] == ["node:/var/lib/ainode"]
    # podman asks for more open files than a machine may give; as many as here are enough for a node
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    mounts = {ROOT: "/opt/ainode", Path(sys.prefix): str(VENV), Path("/usr"): "/usr", Path("/etc/ssl"): "/etc/ssl"}
    mounts |= {Path("/etc/alternatives"): "/etc/alternatives"}
    if not sys.base_prefix.startswith("/usr"):
        mounts |= {Path(sys.base_prefix): sys.base_prefix}
    return [
        *("--read-only", "--network", "none", "--add-host", "orthanc:127.0.0.1"),
        *(word for path in NODE["tmpfs"] for word in ("--tmpfs", path)),
        *(word for name in NODE["cap_drop"] for word in ("--cap-drop", name)),
        *(word for name in NODE["security_opt"] for word in ("--security-opt", name.removesuffix(":true"))),
        *("--pids-limit", str(NODE["pids_limit"])),
        *("--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=4096:4096"),
        *(word for path, place in mounts.items() for word in ("--volume", f"{path}:{place}:ro")),
        *("--env", "PYTHONPATH=/opt/ainode/.ns"),
    ]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield an image with the instructions of the Dockerfile, which a container with the options can be made of."""
    folder = tmp_path_factory.mktemp("image")
    with pytest.MonkeyPatch.context() as patch:
        make_podman_ready(folder, patch)
        if not (ROOT / "README.md").stat().st_mode & 0o004:
            pytest.skip("the files of the checkout are not readable by the user of a container")
        try:
            make_root(folder / "root")
        except PermissionError:
            pytest.skip("only root makes files of the user of an image")
        image = image_of_folder(folder / "root", *OF_THE_IMAGE)
        try:
            command = ["podman", "run", "--rm", *options(), "--entrypoint", "/bin/true", image]
            trial = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            if trial.returncode:
                pytest.skip(f"podman runs no container with these options here: {trial.stderr.strip()[-200:]}")
            yield image
        finally:
            subprocess.run(["podman", "rmi", "--force", image], capture_output=True, check=False, timeout=60)


@pytest.fixture
def node(image: str, tmp_path: Path) -> Iterator[Container]:
    """Yield the node of the composition, with an Orthanc beside it on the container's loopback."""
    program("Orthanc")
    installed("fastapi", "openvino")
    name = f"ainode-test-{uuid.uuid4().hex[:12]}"
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "orthanc.json").write_text(json.dumps(ORTHANC), encoding="ascii")
    let_everybody_read(folder)
    values = {key: str(value).replace("${TIME_ZONE:-}", "") for key, value in NODE["environment"].items()}
    # One handler reads, and one image comes.
    values |= {"OMP_NUM_THREADS": "1", "AINODE_READER__PREPARE": "false", "AINODE_COMPLETENESS__DEFAULT_SILENCE_S": "2"}
    podman(
        *("run", "--detach", "--name", name, *options()),
        *(word for key, value in values.items() for word in ("--env", f"{key}={value}")),
        *("--volume", f"{name}:/var/lib/ainode", "--volume", f"{folder}:/mnt/test:ro"),
        *("--entrypoint", json.dumps(NODE["entrypoint"]), image),
        *(word.replace("$$", "$") for word in NODE["command"]),
    )
    try:
        yield Container(name)
    finally:
        for arguments in (("rm", "--force", "--time", "2", name), ("volume", "rm", "--force", name)):
            subprocess.run(["podman", *arguments], capture_output=True, check=False, timeout=60)


def let_everybody_read(folder: Path) -> None:
    """Let the user of the container read a folder, whatever the umask."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)


def healthy(container: Container) -> bool:
    """Return whether the health check of the composition succeeds."""
    command = ["podman", "exec", container.name, *NODE["healthcheck"]["test"][1:]]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


@pytest.mark.timeout(480)
def test_the_node_answers_a_study_in_a_container_whose_root_nobody_writes(node: Container, tmp_path: Path) -> None:
    storescu = program("storescu")
    handler = registry.handler("skin_lesion", environment(Settings()))
    study = handler.demonstration(0)  # type: ignore[attr-defined] - of a handler that ships
    (path,) = testing.write(study.images, tmp_path / "shared" / "study", study="container")
    let_everybody_read(tmp_path / "shared")
    node.run("mkdir", "/tmp/orthanc")  # noqa: S108 - of the container
    podman("exec", "--detach", node.name, str(program("Orthanc")), "/mnt/test/orthanc.json")
    node.until(lambda: "action=ready" in node.log())
    node.until(lambda: healthy(node))
    assert node.run("id", "--user") == str(USER_ID)
    assert subprocess.run(["podman", "exec", node.name, "touch", "/opt/x"], capture_output=True, check=False).returncode
    node.run(str(storescu), "-aec", "AINODE", "127.0.0.1", "11112", f"/mnt/test/study/{path.name}")
    node.until(lambda: "action=delivered" in node.log())
    assert node.modalities() == ["OT", "SR"]
    podman("stop", "--time", "30", node.name)
    assert "action=stopped" in node.log()
    assert podman("inspect", "--format", "{{.State.ExitCode}}", node.name) == "0"


def test_the_image_writes_a_configuration_that_its_check_takes_and_its_node_finds_its_data_by(
    image: str, tmp_path: Path
) -> None:
    folder = tmp_path / "my"
    folder.mkdir()
    let_everybody_read(folder)
    run = ("run", "--rm", *options(), "--volume", f"{folder}:/etc/ainode")
    archive = ("--archive", "PACS@192.0.2.7:104", "--models", "none")
    podman(*run, "--user", str(os.getuid()), image, "init", "/etc/ainode", "--data", "/var/lib/ainode", *archive)
    settings = load(folder / "node.toml")
    assert settings.data == Path("/var/lib/ainode")
    assert settings.node.allow[-1] == "PACS@192.0.2.7"
    command = ["podman", *run, image, "check", "--config", "/etc/ainode/node.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "configuration  ready" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1  # the archive does not answer
