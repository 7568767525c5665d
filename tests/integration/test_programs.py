import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmread
from support.node import ROOT
from support.programs import (
    VOLUME,
    Site,
    ct,
    environment_of,
    mercure_module,
    mr,
    request_of,
    shell,
    write_program,
)

from ainode.node import testing
from ainode.node.domain import OutOfScope, Presence, Reading, Result, SyntheticImage
from ainode.node.errors import ConfigError, HandlerError, NodeError, ReaderTimeout
from ainode.node.reading import confinement, registry
from ainode.node.reading.reader import Reader
from ainode.node.reading.workplace import workplace
from ainode.node.reports import report_text
from ainode.node.reports.answers import answer_of
from ainode.node.settings import ReaderTable

pytestmark = pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing()))

NODULE = {"class": "nodule", "probability": 0.9, "image": "00001.dcm", "box": [1, 2, 30, 40]}
HOARD = "x = bytes([1]) * (600 << 20); import signal; signal.pause()"
NAMELESS = """import os, signal
kept = [os.open(os.environ["TMPDIR"], os.O_RDWR | os.O_TMPFILE) for _ in range(3)]
for file in kept: os.write(file, bytes(10 << 20))
signal.pause()"""
MAPPED = """import ctypes, os, signal
library = ctypes.CDLL(None)
for number in range(3):
    file = os.open(os.environ["TMPDIR"] + "/x", os.O_RDWR | os.O_CREAT)
    os.write(file, bytes(10 << 20))
    library.mmap(None, ctypes.c_size_t(4096), 1, 1, file, ctypes.c_long(0))
    os.unlink(os.environ["TMPDIR"] + "/x")
    os.close(file)
signal.pause()"""
# What the program does stands in the header of its image, as a word.
HOSTILE = {
    "socket": ("python3 -c 'import socket; socket.socket()'", "ended with code 1"),
    "forever": (":", "was ended after 4 s"),
    "fork": ("while :; do sh -c 'sleep 60 & sleep 60' & done", "ended"),
    "fill": (
        "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > $out/$i; done",
        "wrote more than 20971520 bytes",
    ),
    "files": ("i=0; while :; do i=$((i+1)); : > $out/$i; done", "wrote more than 10000 files|ended after 4 s"),
    "nest": (
        'cd $TMPDIR; python3 -c \'import os\nfor _ in range(1500): os.mkdir("d"); os.chdir("d")\'',
        "more than 100 folders in one another",
    ),
    "big": ("head -c 100000000 /dev/zero > $out/big", "ended with code"),
    "memory": ("python3 -c 'x=[]\nwhile True: x.append(bytearray(1<<23))'", "was ended above 268435456 bytes"),
    "nameless": (f"python3 -c '{NAMELESS}'", "wrote more than 20971520 bytes"),
    "mapped": (f"python3 -c '{MAPPED}'", "wrote more than 20971520 bytes|cannot see which removed files"),
    "memfd": ("python3 -c 'import os; os.memfd_create(\"x\")'", "ended with code 1"),
    "neighbor": ("cat {neighbor}/in/task.json > $out/result.json", "ended with code 1"),
    "named": ("tr '\\0' ' ' < /proc/$PPID/cmdline | grep -q ainode-programs || exit 6", "ended with code 6"),
    "exit": ("exit 3", "ended with code 3"),
    "crash": ("kill -SEGV $$", "ended by signal 11"),
    "nothing": (":; exit 0", "without a result.json"),
    "unknown": ("echo '{\"patient\": 1}' > $out/result.json", "1 keys that nobody reads"),
    "link": ("ln -s /etc/passwd $out/result.json", "a link or a folder"),
    "probability": (
        f"echo '{json.dumps({'findings': [{**NODULE, 'probability': 7}]})}' > $out/result.json",
        "none of 0 to 1",
    ),
    "object": ("echo '{}' > $out/result.json; echo x > $out/x.dcm", "object 1 of 1 .* no whole DICOM object"),
    "secret": ("cat {data}/secret > $out/result.json", "ended with code 1"),
    "change": ("echo x >> $in/00001.dcm", "ended with code 2"),
    "node": ("kill -9 {node}", "ended with code 1"),
    "healthy": (f"echo '{json.dumps({'findings': [NODULE]})}' > $out/result.json", ""),
}
ENDLESS = {"forever", "fork", "files"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "secret").write_text("{}", encoding="ascii")
    (folder / "secret").chmod(0o644)
    return folder


@pytest.fixture(scope="module")
def neighbor() -> Iterator[Path]:
    """Yield the workplace of another program's run."""
    with workplace() as place:
        (place.inputs / "task.json").write_text("{}", encoding="ascii")
        yield place.folder


@pytest.fixture(scope="module")
def read(data: Path, neighbor: Path) -> Iterator[Callable[[str], Reading]]:
    """Yield a function that has one program, in one reader, do what a word says."""
    cases = "\n".join(
        f"order-{word}) {_filled(action, data, neighbor)};;"
        for word, (action, _) in HOSTILE.items()
        if word != "forever"
    )
    script = (
        f"order=$(grep -ao 'order-[a-z]*' $in/00001.dcm | head -n 1)\ncase $order in\n{cases}\n*) sleep 100;;\nesac"
    )
    site = Site(data)

    def read(word: str) -> Reading:
        limit_s = 4 if word in ENDLESS else 60
        limits = f"time_limit_s = {limit_s}\nmemory_bytes = 268435456\ndisk_bytes = 20971520\nprocesses = 32"
        site.program(shell(script), limits=limits)
        return site.read(testing.noise(64, 64, Modality="DX", SeriesDescription=f"order-{word}"))

    yield read
    site.close()


def _filled(action: str, data: Path, neighbor: Path) -> str:
    values = {"{data}": str(data), "{neighbor}": str(neighbor), "{node}": str(psutil.Process().pid)}
    for name, value in values.items():
        action = action.replace(name, value)
    return action


@pytest.mark.parametrize("word", [word for word in HOSTILE if word != "healthy"])
def test_a_hostile_program_fails_alone_and_the_next_study_is_read(read: Callable[[str], Reading], word: str) -> None:
    _, reason = HOSTILE[word]
    with pytest.raises(NodeError, match=reason):
        read(word)
    assert isinstance(read("healthy").answer, Result)
    names = [process.name() for process in psutil.Process().children(recursive=True)]
    assert not {"sh", "sleep", "head"} & set(names)


def test_an_orphan_of_an_empty_environment_is_gone_before_the_next_study(site: Site) -> None:
    orphan = "sh -c 'setsid env -i /bin/sleep 778 &'"
    site.program(shell(f"{orphan}; sleep 0.5; {orphan}; echo '{{}}' > $out/result.json"))
    site.read()
    assert not _running(["/bin/sleep", "778"])


def test_a_program_finds_a_nodule_and_the_report_names_the_program(site: Site) -> None:
    words = {
        "findings": [{**NODULE, "measurements": {"diameter": 4.5}}],
        "measurements": {"diameter": 5},
        "summary": "one nodule",
    }
    path = site.program(shell(f"echo '{json.dumps(words)}' > $out/result.json"))
    reading = site.read()
    result = reading.answer
    assert isinstance(result, Result)
    on_study, nodule = result.findings
    assert (on_study.measurements[0].value, nodule.measurements[1].value) == (5, 4.5)
    assert nodule.verdict is not None
    assert nodule.verdict.presence is Presence.PRESENT
    assert nodule.region is not None
    assert nodule.region.points[0] == (1, 2)
    assert [document.kind for document in reading.documents] == ["sc", "sr"]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert dict(result.algorithm.parameters)["program"] == f"executable sha256 {sha256}"
    assert sha256.encode() in reading.documents[-1].content


def test_a_box_on_a_frame_is_in_the_report_and_drawn_on_that_frame(site: Site) -> None:
    frames = np.random.default_rng(0).integers(0, 50, (3, 64, 64)).astype("<u2")
    frames[1, :16] = 4000
    image = SyntheticImage(64, 64, frames.tobytes(), {"NumberOfFrames": "3", "Modality": "DX"})
    site.program(shell(f"echo '{json.dumps({'findings': [{**NODULE, 'frame': 2}]})}' > $out/result.json"))
    reading = site.read(image)
    picture, report = (dcmread(BytesIO(document.content)) for document in reading.documents)
    referenced = [item for item in report.iterall() if item.keyword == "ReferencedFrameNumber"]
    assert {item.value for item in referenced} == {2}
    assert picture.SourceImageSequence[0].ReferencedFrameNumber == 2
    assert picture.pixel_array[20, 256].min() > 200
    parsed = answer_of(reading.summary)
    assert isinstance(parsed, Result)
    assert parsed.findings[0].region is not None
    assert parsed.findings[0].region.frame == 2
    assert "rows 2.0 to 40.0 (pixels) of frame 2 of image 1" in " ".join(report_text(reading.answer).split())


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the system has no Python")
def test_the_program_of_the_guide_reads_a_study_by_the_description_of_the_guide(site: Site) -> None:
    guide = (ROOT / "handlers" / "README.md").read_text("utf-8")
    (program,) = re.findall(r"```py\n(.*?)```", guide, re.DOTALL)
    path = site.program(program)
    (description,) = re.findall(r'```toml\n(handler = "program"\n.*?)```', guide, re.DOTALL)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    changes = {"nodules.tar": "program", '"…"': f'"{digest}"', 'engine = "podman"': "", '["python", "run.py"]': "[]"}
    changes |= {'form = "archive"': 'form = "executable"', 'input = "nifti"': 'input = "dicom"'}
    changes |= {'images = "stack"': 'images = "all"', "min_instances = 40": "min_instances = 3"}
    for old, new in changes.items():
        assert old in description
        description = description.replace(old, new)
    (path.parent / "model.toml").write_text(description, encoding="utf-8")
    result = site.read(*ct(BodyPartExamined="CHEST")).answer
    assert isinstance(result, Result)
    assert result.headline == "nodule 1: present, 0.90, threshold 0.50"


def test_a_program_declines_a_study_in_its_own_words_but_for_the_patients(site: Site) -> None:
    left_out = "the program's words name the patient"
    long = f"{'noise ' * 32}SYNTHETIC"  # of the name, the 200 letters that are shown would have a part
    for words, reason in (("too noisy", "too noisy"), ("of SYNTHETIC!", left_out), (long, left_out)):
        site.program(shell(f"echo '{json.dumps({'out_of_scope': words})}' > $out/result.json"))
        answer = site.read().answer
        assert isinstance(answer, OutOfScope)
        assert answer.reason.startswith(reason)


def test_a_program_that_finds_nothing_has_a_report_that_says_so(site: Site) -> None:
    site.program(shell("echo '{}' > $out/result.json"))
    reading = site.read()
    assert isinstance(reading.answer, Result)
    assert reading.answer.summary == "A program: no finding, 0 objects of the program"
    assert [document.kind for document in reading.documents] == ["sr"]


def test_slices_whose_high_values_are_dark_go_to_no_program_as_nifti_and_to_one_of_dicom(site: Site) -> None:
    values = np.random.default_rng(0).integers(0, 200, (3, 64, 64)).astype(np.float32)
    slices = mr(values, (2.5, 1.0, 1.0))
    dark = [replace(item, header={**item.header, "PhotometricInterpretation": "MONOCHROME1"}) for item in slices]
    program = shell('echo \'{"summary": "read"}\' > $out/result.json')
    site.program(program, program='input = "nifti"')
    refused = site.read(*slices[:1], *dark[1:]).answer
    assert isinstance(refused, OutOfScope)
    assert "MONOCHROME1" in refused.reason
    assert isinstance(site.read(*slices).answer, Result)
    site.program(program, program='input = "dicom"')
    assert isinstance(site.read(*dark).answer, Result)


def test_a_volume_goes_in_as_nifti_and_its_mask_comes_back_on_the_slices(site: Site) -> None:
    program = shell(
        "python3 - $in/image.nii $out <<'END'\n"
        "import struct, sys\n"
        "image = open(sys.argv[1], 'rb').read()\n"
        "columns, rows, depth = struct.unpack_from('<3h', image, 42)\n"
        "values = struct.unpack_from(f'<{columns * rows * depth}f', image, 352)\n"
        "header = bytearray(image[:352])\n"
        "struct.pack_into('<2h', header, 70, 2, 8)\n"
        "mask = bytes(3 * (value > 0) for value in values)\n"
        "open(sys.argv[2] + '/mask.nii', 'wb').write(bytes(header) + mask)\n"
        "open(sys.argv[2] + '/result.json', 'w').write('{\"masks\": [\"mask.nii\"]}')\n"
        "END"
    )
    site.program(program, program='input = "nifti"')
    values = np.full((6, 40, 32), -1000, np.float32)
    values[2:4, 10:20, 5:15] = 100
    reading = site.read(*mr(values, (2.5, 0.8, 0.7)))
    result = reading.answer
    assert isinstance(result, Result)
    assert result.segmented is not None
    assert len(result.segmented.maps) == 2
    plane = np.frombuffer(result.segmented.maps[0].labels, np.uint8).reshape(40, 32)
    assert (plane == 1).sum() == 100
    assert plane[10:20, 5:15].all()
    (lung,) = result.findings
    assert lung.measurements[0].value == pytest.approx(200 * 2.5 * 0.8 * 0.7, abs=0.1)


def test_a_number_that_nobody_described_is_no_score(site: Site) -> None:
    words = {"measurements": {"diameter": 5, "Hopper^Grace 19061209": 7, "<script>": 1, "a\nb": 2}}
    site.program(shell(f"cat > $out/result.json <<'END'\n{json.dumps(words)}\nEND"))
    result = site.read().answer
    assert isinstance(result, Result)
    assert result.scores == {"measurements.diameter": 5}
    assert "3" in dict(result.algorithm.parameters)["left out, values without an entry below [output]"]
    assert "left out, values without an entry below [output]" in report_text(result)


def test_the_report_names_what_a_program_did_not_say_and_what_nobody_read(site: Site) -> None:
    words = {"measurements": {"diametre": 5}, "summary": "no mass but " + 60 * "word "}
    site.program(shell(f"touch $out/lung.nii\ncat > $out/result.json <<'END'\n{json.dumps(words)}\nEND"))
    result = site.read().answer
    assert isinstance(result, Result)
    assert dict(result.algorithm.parameters).items() >= {
        ("left out, values without an entry below [output]", "1"),
        ("left out, files that nothing names", "1"),
        ("without a number", "diameter"),
    }
    assert len(result.summary) == 200
    assert result.summary.endswith(" [...]")


def test_the_words_of_a_program_stay_beside_its_verdicts(site: Site) -> None:
    words = {"findings": [NODULE], "summary": "the left lung is not seen"}
    site.program(shell(f"echo '{json.dumps(words)}' > $out/result.json"))
    result = site.read().answer
    assert isinstance(result, Result)
    assert result.presence is Presence.PRESENT
    assert "the left lung is not seen" in report_text(result)


def test_a_mask_without_a_voxel_is_said_to_mark_nothing(site: Site) -> None:
    program = shell(
        "python3 - $in/image.nii $out <<'END'\n"
        "import struct, sys\n"
        "image = open(sys.argv[1], 'rb').read()\n"
        "header = bytearray(image[:352])\n"
        "struct.pack_into('<2h', header, 70, 2, 8)\n"
        "open(sys.argv[2] + '/mask.nii', 'wb').write(bytes(header) + bytes((len(image) - 352) // 4))\n"
        "open(sys.argv[2] + '/result.json', 'w').write('{\"masks\": [\"mask.nii\"]}')\n"
        "END"
    )
    site.program(program, program='input = "nifti"')
    values = np.random.default_rng(0).integers(-900, 200, (6, 40, 32)).astype(np.float32)
    result = site.read(*mr(values, (2.5, 0.8, 0.7))).answer
    assert isinstance(result, Result)
    assert dict(result.algorithm.parameters)["nothing marked"] == "lung"


def test_a_program_that_declines_has_its_summary_in_the_reason(site: Site) -> None:
    words = {"out_of_scope": "too noisy", "summary": "take it anew"}
    site.program(shell(f"echo '{json.dumps(words)}' > $out/result.json"))
    answer = site.read().answer
    assert isinstance(answer, OutOfScope)
    assert answer.reason == "too noisy; take it anew"


def test_a_module_of_mercure_runs_unchanged_and_its_series_leaves_beside_the_report(site: Site, tmp_path: Path) -> None:
    module = mercure_module()
    kind = "1.2.840.10008.5.1.4.1.1.2"
    program = f'layout = "mercure"\nobjects = ["SC", "{kind}"]\n[program.settings]\noffset = 5'
    site.program(module, program=program, output=VOLUME)
    reading = site.read(*ct())
    result = reading.answer
    assert isinstance(result, Result)
    assert result.summary == "done"
    assert result.scores["volume"] == 7
    assert result.attachments == ()
    assert [document.kind for document in reading.documents] == ["object"] * 3 + ["sr"]
    derived = tmp_path / "derived.dcm"
    derived.write_bytes(reading.documents[0].content)
    image = dcmread(derived)
    assert (image.SeriesNumber, image.SOPClassUID, 0x00091010 in image) == (1005, kind, False)


def test_a_series_of_a_program_in_a_frame_of_reference_of_its_own_is_refused_with_all_of_its_answer(site: Site) -> None:
    kind = "1.2.840.10008.5.1.4.1.1.2"
    moved = "image.FrameOfReferenceUID = pydicom.uid.generate_uid()"
    module = mercure_module().replace("    image.PixelData =", f"    {moved}\n    image.PixelData =")
    site.program(module, program=f'layout = "mercure"\nobjects = ["{kind}"]\n[program.settings]\noffset = 5')
    with pytest.raises(HandlerError, match=r"CT Image Storage, and its FrameOfReferenceUID names .*; nothing"):
        site.read(*ct())


@pytest.mark.parametrize(
    ("part", "text", "reason"),
    [
        ("program", 'layout = "other"', r"\[program\]: layout = 'other'; it is one of ainode, mercure"),
        ("program", 'objects = ["CT"]', r"objects = .*; each is one of SR, SC, SEG, GSPS, PDF, or the UID of a SOP"),
        ("program", 'engine = "podman"', "it starts containers; an executable is started without one"),
        ("program", "memory = 1", r"\[program\]: memory is no key here; the keys are "),
        ("program", "settings = {at = 2026-01-01}", "dates and times cannot be written as JSON"),
        (
            "output",
            VOLUME.replace('key = "volume"', "least = 2\nmost = 1"),
            "no number lies between least = 2 and",
        ),
        ("output", VOLUME, r"key = 'volume'; with layout = .ainode. it begins with probabilities\. or measurements\."),
    ],
)
def test_a_wrong_description_of_a_program_is_refused_by_its_key(
    tmp_path: Path, part: str, text: str, reason: str
) -> None:
    write_program(tmp_path / "models", "#!/bin/sh\n", **{part: text})
    with pytest.raises(ConfigError, match=reason):
        registry.handler("tool", environment_of(tmp_path))


@pytest.mark.parametrize(
    ("takes", "program", "reason"),
    [
        ('images = "stack"', "", "Hounsfield units are read"),
        ("", 'input = "nifti"', "Hounsfield units are read"),
        ("", "", "the pixels have one value; images that show something are read"),
        ("min_instances = 9", "", "3 images can be read; 9 are needed"),
        ('series = "lung"', "", "Series Description does not hold 'lung'"),
    ],
)
def test_a_study_that_shows_nothing_is_not_for_a_program(site: Site, takes: str, program: str, reason: str) -> None:
    site.program(shell("exit 9"), takes=takes, program=program)
    images = testing.ct(np.zeros((3, 64, 64), np.float32), (2.5, 1.0, 1.0), frame="f", header={})
    answer = site.read(*images).answer
    assert isinstance(answer, OutOfScope)
    assert reason in answer.reason


def test_a_changed_program_is_another_model_and_is_not_started(site: Site) -> None:
    path = site.program(shell("echo '{}' > $out/result.json"))
    path.write_text(shell("exit 0"))
    with pytest.raises(HandlerError, match="sha256"):
        site.read()


def test_a_program_that_cannot_be_started_is_told_from_one_that_fails(site: Site) -> None:
    site.program(b"\x7fELF of another machine")
    with pytest.raises(HandlerError, match="the program could not be started: Exec format error; a script names"):
        site.read()


def test_a_script_without_its_interpreter_is_not_ready_and_reads_nothing(site: Site) -> None:
    site.program("#!/usr/bin/absent\n")
    with pytest.raises(NodeError, match=r"the first line of .* names /usr/bin/absent, which is not there"):
        site.read()


@pytest.mark.parametrize("mask", [0o077, 0o027])
def test_a_node_that_keeps_its_files_to_itself_hands_a_program_what_the_program_needs(
    tmp_path: Path, mask: int
) -> None:
    former = os.umask(mask)
    site = Site(tmp_path)
    try:
        site.program(shell(f"echo '{json.dumps({'findings': [NODULE]})}' > $out/result.json; : > $TMPDIR/own"))
        assert isinstance(site.read().answer, Result)
    finally:
        os.umask(former)
        site.close()


def test_a_program_ends_with_its_reader_and_its_images_are_removed(tmp_path: Path) -> None:
    write_program(tmp_path / "models", shell("sh -c 'setsid env -i /bin/sleep 777 &'; setsid sleep 777 & sleep 777"))
    reader = Reader("tool", environment_of(tmp_path), ReaderTable(time_limit_s=4))
    with workplace() as place:
        others = {*place.neighbors.iterdir()}
        with pytest.raises(ReaderTimeout):
            reader.read(request_of(tmp_path))
        assert {*place.neighbors.iterdir()} <= others
    assert not _running(["/bin/sleep", "777"])
    assert not _running(["sleep", "777"])


def test_the_memory_of_an_orphan_counts(site: Site) -> None:
    orphan = f"sh -c \"setsid env -i $(command -v python3) -c '{HOARD}' &\""
    site.program(shell(f"{orphan}; sleep 60"))
    with pytest.raises(HandlerError, match="was ended above 536870912 bytes"):
        site.read()


def test_an_orphan_ends_with_a_reader_that_dies_by_itself(tmp_path: Path) -> None:
    write_program(tmp_path / "models", shell("sh -c 'setsid env -i /bin/sleep 776 &'; sleep 776"))
    reader = Reader("tool", environment_of(tmp_path), ReaderTable(time_limit_s=60))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(reader.read, request_of(tmp_path))
        while not (orphans := _running(["/bin/sleep", "776"])):
            assert not reading.done()
        (process,) = (child for child in psutil.Process().children() if orphans[0] in child.children(recursive=True))
        process.kill()
        with pytest.raises(NodeError):
            reading.result()
    psutil.wait_procs(orphans, timeout=60)
    assert not _running(["/bin/sleep", "776"])
    reader.kill_unless_reading()


def _running(command: list[str]) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == command]
