"""Programs of a site as tests describe them: shell scripts, and what a `model.toml` says of them."""

import hashlib
import os
import stat
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from ainode.node import testing
from ainode.node.domain import UID, DocumentContext, File, Reading, Request, SyntheticImage
from ainode.node.keeping.spool import content_sha256
from ainode.node.offline.readings import reading_of
from ainode.node.reading.reader import Reader
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.settings import ReaderTable

CONTEXT = DocumentContext(datetime(2026, 1, 2, tzinfo=UTC), UID("2.25.1"), "test", ("ainode 0",), "00")
STUDY = "program"
DESCRIPTION = """
handler = "program"
title = "A program"
version = "2"
licence = "MIT"
trained_on = "nothing"
not_for = ["anybody"]

[file]
path = "{path}"
sha256 = "{sha256}"
format = "program"

[takes]
modality = ["CT", "DX", "MR"]
{takes}

[program]
form = "{form}"
{limits}
{program}

[output]
site = ["39607008", "SCT", "Lung"]

[[output.classes]]
name = "nodule"
code = ["27925004", "SCT", "Nodule"]
threshold = 0.5

[[output.measurements]]
name = "diameter"
code = ["81827009", "SCT", "Diameter"]
unit = ["mm", "UCUM", "mm"]

[[output.segments]]
label = 3
name = "lung"
category = ["123037004", "SCT", "Anatomical Structure"]
code = ["39607008", "SCT", "Lung"]
{output}
"""

VOLUME = """
[[output.measurements]]
name = "volume"
key = "volume"
code = ["118565006", "SCT", "Volume"]
unit = ["mm3", "UCUM", "mm3"]
"""
LIMITS = "time_limit_s = 20\nmemory_bytes = 536870912\ndisk_bytes = 20971520\nprocesses = 32"


def write_program(  # noqa: PLR0913 - the parts of a description
    models: Path,
    content: str | bytes,
    *,
    name: str = "tool",
    form: str = "executable",
    takes: str = "",
    limits: str = LIMITS,
    program: str = "",
    output: str = "",
) -> Path:
    """Put a program and its description into a folder of models; return the path of the program."""
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    encoded = content.encode() if isinstance(content, str) else content
    path = folder / "program"
    path.write_bytes(encoded)
    values = {"path": path.name, "sha256": hashlib.sha256(encoded).hexdigest(), "form": form}
    values |= {"takes": takes, "limits": limits, "program": program, "output": output}
    text = DESCRIPTION
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return path


def shell(answer: str) -> str:
    """Return a program of the shell, with short words for its folders."""
    return (
        f'#!/bin/sh\nin="${{AINODE_IN_DIR:-$MERCURE_IN_DIR}}"\nout="${{AINODE_OUT_DIR:-$MERCURE_OUT_DIR}}"\n{answer}\n'
    )


def mr(values: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> tuple[SyntheticImage, ...]:
    """Return a volume (Z, Y, X) as slices that no look holds against Hounsfield units."""
    header = {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "RescaleType": "US"}
    return testing.ct(values, spacing_mm, frame="program", header=header)


def ct(**header: str) -> tuple[SyntheticImage, ...]:
    """Return three slices of noise of a CT."""
    values = np.random.default_rng(0).integers(-900, 200, (3, 64, 64)).astype(np.float32)
    return testing.ct(values, (2.5, 1.0, 1.0), frame="program", header=header)


def mercure_module() -> str:
    """Return a module in the form of mercure: it writes a derived series, and some words.

    Skip, by name, where the packages that it imports are closed to nobody, as whom it runs.
    """
    package = Path(pydicom.__file__).parent
    if not os.geteuid() and not all(folder.stat().st_mode & stat.S_IXOTH for folder in (package, *package.parents)):
        pytest.skip(f"{package} is closed to nobody, by the umask of the installation", allow_module_level=True)
    return shell(
        "python3 - <<'END'\n"
        "import json, os, pathlib, sys\n"
        f"sys.path[:0] = {[path for path in sys.path if 'site-packages' in path]}\n"
        "import pydicom\n"
        "given, out = (pathlib.Path(os.environ[f'MERCURE_{end}_DIR']) for end in ('IN', 'OUT'))\n"
        "task = json.loads((given / 'task.json').read_text())\n"
        "series = pydicom.uid.generate_uid()\n"
        "for path in given.glob('*.dcm'):\n"
        "    of_series, rest = path.name.split('#', 1)\n"
        "    image = pydicom.dcmread(path)\n"
        "    assert of_series == image.SeriesInstanceUID and rest == image.SOPInstanceUID + '.dcm'\n"
        "    image.SeriesInstanceUID, image.SOPInstanceUID = series, pydicom.uid.generate_uid()\n"
        "    image.SeriesNumber = 1000 + task['process']['settings']['offset']\n"
        "    image.PixelData = bytes(len(image.PixelData))\n"
        "    image.add_new(0x00091010, 'LO', 'private')\n"
        "    image.save_as(out / (series + '#' + rest))\n"
        "text = {'text': 'done', 'requested': True}\n"
        "words = {'volume': 7, '__mercure_notification': text, 'findings': 'many', 'out_of_scope': False}\n"
        "(out / 'result.json').write_text(json.dumps(words))\n"
        "END"
    )


def environment_of(folder: Path) -> ModelEnvironment:
    return ModelEnvironment(WeightStore(folder / "weights", folder / "shipped", folder / "models"), folder / "cache")


class Site:
    """A data folder with a program, and one reader for whatever a test has the program be: its start takes seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reader = Reader("tool", environment_of(folder), ReaderTable(time_limit_s=120))

    def program(self, content: str | bytes, **parts: str) -> Path:
        """Put a program and its description in the place of the former one; return the path of the program."""
        return write_program(self.folder / "models", content, **parts)

    def read(self, *images: SyntheticImage) -> Reading:
        """Return the reading of a study; without images, of a radiograph."""
        return self._reader.read(request_of(self.folder, images))

    def close(self) -> None:
        """End the reader."""
        self._reader.kill_unless_reading()


def request_of(folder: Path, images: Iterable[SyntheticImage] = ()) -> Request:
    """Return the request for a study, whose files are written below a folder; without images, for a radiograph."""
    paths = testing.write([*images] or [testing.noise(64, 64, Modality="DX")], folder / "study", study=STUDY)
    files = tuple(File(path, content_sha256(path)) for path in paths)
    return Request(UID(testing.uid(STUDY)), files, CONTEXT, report_out_of_scope=True)


def read_by_program(folder: Path, images: Iterable[SyntheticImage], name: str = "tool") -> Reading:
    """Return the reading of a study by a described program, in a process of its own."""
    return reading_of(request_of(folder, images), name, environment_of(folder), ReaderTable(time_limit_s=120))
