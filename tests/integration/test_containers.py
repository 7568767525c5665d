"""A program in a real container, of an image that the test builds from a folder: no registry is asked."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from support.containers import image_of_folder, make_podman_ready, podman
from support.programs import VOLUME, Site, environment_of, request_of, shell, write_program

from ainode.node import testing
from ainode.node.domain import Reading, Result, SyntheticImage
from ainode.node.errors import ConfigError, HandlerError, ReaderTimeout
from ainode.node.offline.readings import reading_of
from ainode.node.reading import containers, registry
from ainode.node.reading.program_words import kept_words
from ainode.node.reading.reader import Reader
from ainode.node.settings import ReaderTable

BUSYBOX = Path("/bin/busybox")
COMMANDS = ("sh", "cat", "cp", "dd", "echo", "env", "grep", "head", "id", "ls", "sed", "sleep")
# No other test on this machine waits for so long.
ENDLESS_S = str(10_000_000 + os.getpid())
# The word in the header of the image says what the program does.
PROGRAM = shell(r"""
case $(grep -ao 'order-[a-z]*' $in/*.dcm | head -n 1) in
order-healthy) echo '{"findings": [{"class": "nodule", "probability": 0.8, "box": [1, 2, 3, 4]}]}' > $out/result.json;;
order-network) test "$(ls /sys/class/net)" != lo || exit 6 ;;
order-root) echo x > /written ;;
order-user) test $(id -u) = 0 || exit 5 ;;
order-forever) sleep SECONDS ;;
order-fork) while :; do sleep SECONDS & done ;;
order-fill) dd if=/dev/zero of=$out/big bs=1M count=300 ;;
order-filltmp) dd if=/dev/zero of=/tmp/big bs=1M count=300 ;;
order-memory) dd if=/dev/zero of=/dev/null bs=300M count=1 ;;
order-exit) echo no lungs here >&2; exit 3 ;;
order-loud) echo loading >&2; sleep SECONDS ;;
order-change) echo x >> $in/00001.dcm ;;
esac
""").replace("SECONDS", ENDLESS_S)
REASONS = {
    "network": "ended with code 6",
    "root": "ended with code 1",
    "user": "ended with code 5",
    "forever": r"ended after 10 s \(\[program\] time_limit_s\)",
    "fork": "ended",
    "fill": "ended with code|wrote more than 20971520 bytes",
    "filltmp": "ended with code 1",
    "memory": "killed in its container|ended with code",
    "exit": "ended with code 3",
    "change": "ended with code 1",
}
_ULIMITS = ("--ulimit", "nofile=64:64", "--ulimit", "nproc=64:64")
ENDLESS = {"forever", "fork"}


def left_containers() -> list[str]:
    """Return the containers of readers of this test, and of readers that have ended; other nodes may run their own."""
    names = podman("ps", "--all", "--filter", "label=ainode.program", "--format", "{{.Names}}").split()
    own = {process.pid for process in psutil.Process().children(recursive=True)}
    processes = {name: int(name.split("-")[1]) for name in names}
    return [name for name, process in processes.items() if process in own or not psutil.pid_exists(process)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield an archive of an image with a shell and a program; the image itself is gone from podman."""
    folder = tmp_path_factory.mktemp("image")
    patch = pytest.MonkeyPatch()
    make_podman_ready(folder, patch)
    if not BUSYBOX.exists():
        patch.undo()
        pytest.skip("busybox-static is missing")
    root = folder / "root"
    for name in ("", "bin", "tmp", "in", "out", "etc"):
        (root / name).mkdir()
        (root / name).chmod(0o755)  # for the user of the container, whatever the umask
    shutil.copy(BUSYBOX, root / "bin")
    for name in COMMANDS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "bin" / "program").write_text(PROGRAM, encoding="ascii")
    (root / "bin" / "program").chmod(0o755)
    image = image_of_folder(root, "CMD /bin/program")
    try:
        trial = subprocess.run(
            ["podman", "run", "--rm", "--network", "none", "--memory", "100m", *_ULIMITS, image, "/bin/echo"],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        if trial.returncode:
            pytest.skip(f"podman runs no container with limits here: {trial.stderr.strip()[-200:]}")
        podman("save", "--quiet", "--output", str(folder / "image.tar"), image)
        podman("rmi", image)
        yield folder / "image.tar"
        subprocess.run(["podman", "rmi", "--force", image], capture_output=True, check=False, timeout=240)
    finally:
        patch.undo()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.close()


@pytest.fixture
def read(site: Site, archive: Path) -> Callable[[str], Reading]:
    """Return a function that reads a study by one reader, whatever happened before."""

    def read(order: str) -> Reading:
        limit_s = 10 if order in ENDLESS else 60
        limits = f"time_limit_s = {limit_s}\nmemory_bytes = 100000000\ndisk_bytes = 20971520\nprocesses = 32"
        site.program(archive.read_bytes(), form="archive", limits=limits)
        return site.read(an_image(order))

    return read


def an_image(order: str) -> SyntheticImage:
    return testing.noise(64, 64, Modality="DX", SeriesDescription=f"order-{order}")


def test_a_container_reads_a_study_and_the_report_names_its_image(
    archive: Path, read: Callable[[str], Reading]
) -> None:
    reading = read("healthy")
    assert isinstance(reading.answer, Result)
    (nodule,) = reading.answer.findings
    assert nodule.conclusion == "nodule 1: present"
    image = containers.image_of_archive(archive)
    assert dict(reading.answer.algorithm.parameters)["program"] == f"container image sha256 {image}"
    assert image.encode() in reading.documents[-1].content


@pytest.mark.parametrize(
    ("order", "word", "reason"),
    [("exit", "no lungs here", "ended with code 3"), ("loud", "loading", "ended after 10 s")],
)
def test_who_runs_a_container_by_hand_gets_its_last_words_however_it_ends(
    tmp_path: Path, archive: Path, order: str, word: str, reason: str
) -> None:
    limits = "time_limit_s = 10\nmemory_bytes = 100000000\ndisk_bytes = 20971520\nprocesses = 32"
    write_program(tmp_path / "models", archive.read_bytes(), form="archive", limits=limits)
    with kept_words() as words:
        heard = replace(environment_of(tmp_path), words=words.path)
        with pytest.raises(HandlerError, match=reason) as failure:
            reading_of(request_of(tmp_path, [an_image(order)]), "tool", heard, ReaderTable(time_limit_s=120))
        assert words.take_lines() == (word,)
    assert word not in str(failure.value)
    assert not left_containers()


def test_a_node_that_keeps_its_files_to_itself_hands_a_container_what_the_container_needs(
    tmp_path: Path, archive: Path
) -> None:
    former = os.umask(0o077)
    site = Site(tmp_path)
    try:
        site.program(archive.read_bytes(), form="archive")
        assert isinstance(site.read(an_image("healthy")).answer, Result)
    finally:
        os.umask(former)
        site.close()


@pytest.mark.parametrize("order", REASONS)
def test_a_hostile_container_fails_alone_and_nothing_of_it_is_left(read: Callable[[str], Reading], order: str) -> None:
    with pytest.raises(HandlerError, match=REASONS[order]):
        read(order)
    assert left_containers() == []
    assert isinstance(read("healthy").answer, Result)


def test_a_container_of_a_reader_that_was_killed_is_removed_by_the_next(
    read: Callable[[str], Reading], archive: Path
) -> None:
    ended = subprocess.run(["/bin/sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    image = containers.image_of_archive(archive)
    containers.make_ready(containers.engine_named("podman"), image, archive)
    own, other = Path("/proc/self/ns/pid").stat().st_ino, 1  # where numbers of processes mean something else
    for namespace in (own, other):
        label = f"{containers.LABEL}={namespace}"
        podman("create", "--name", f"ainode-{ended}-{namespace}", "--label", label, image, "/bin/echo")
    read("healthy")
    assert left_containers() == [f"ainode-{ended}-{other}"]
    podman("rm", "--force", f"ainode-{ended}-{other}")


def test_a_container_ends_with_its_reader(tmp_path: Path, archive: Path, read: Callable[[str], Reading]) -> None:
    write_program(tmp_path / "models", archive.read_bytes(), form="archive")
    reader = Reader("tool", environment_of(tmp_path), ReaderTable(time_limit_s=10))
    with pytest.raises(ReaderTimeout):
        reader.read(request_of(tmp_path, [an_image("forever")]))
    commands = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", ENDLESS_S] not in commands
    read("healthy")
    assert left_containers() == []


def test_a_module_of_mercure_runs_unchanged_from_its_image(site: Site, archive: Path) -> None:
    command = r"""echo '{"volume": 7}' > $MERCURE_OUT_DIR/result.json; ls $MERCURE_IN_DIR/*#*.dcm && id -u"""
    program = f'layout = "mercure"\ncommand = ["/bin/sh", "-c", {json.dumps(command)}]'
    site.program(archive.read_bytes(), form="archive", program=program, output=VOLUME)
    result = site.read(an_image("mercure")).answer
    assert isinstance(result, Result)
    assert result.scores == {"volume": 7}


def test_an_image_is_named_by_its_identifier_alone(site: Site, archive: Path) -> None:
    image = containers.image_of_archive(archive)
    containers.make_ready(containers.engine_named("podman"), image, archive)
    site.program(f"sha256:{image}\n", form="image")
    assert isinstance(site.read(an_image("healthy")).answer, Result)
    site.program(f"{0:064x}\n", form="image")
    with pytest.raises(HandlerError, match="the image sha256:000000000000… is not in podman"):
        site.read()
    site.program("localhost/tool:latest\n", form="image")
    with pytest.raises(ConfigError, match="holds no identifier of an image"):
        site.read()


def test_a_file_that_is_no_archive_of_an_image_is_refused(site: Site) -> None:
    if not shutil.which("podman"):
        pytest.skip("podman is missing")
    site.program(b"no archive", form="archive")
    with pytest.raises(ConfigError, match="is no archive of one image"):
        site.read()


def test_a_machine_without_an_engine_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write_program(tmp_path / "models", b"", form="archive")
    with pytest.raises(ConfigError, match="podman or docker is missing, which runs the program's container"):
        registry.handler("tool", environment_of(tmp_path))
