"""Programs that share no code with the node, and what they hold against a document. A missing one is a skip."""

import atexit
import importlib.util
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterable
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from support.files import shared
from support.servers import program

_LIMIT_S = 240
_PIXELMED = Path("/usr/share/java/pixelmed.jar")
# The validators end before a second compiler could repay its work: without it they take half the time.
_QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
# PixelMed's templates are larger than a current JDK's default XPath limits.
_XPATH = [f"-Djdk.xml.xpath{which}Limit=0" for which in ("ExprOp", "TotalOp", "ExprGrp")]


def _said(*command: str | Path) -> tuple[int, str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "JAVA_TOOL_OPTIONS": " ".join(_QUICK)}
    done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False, env=environment)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def _lines(text: str, pattern: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(pattern, line)]


def module_errors(document: Path) -> list[str]:
    """Return what dciodvfy finds wrong with modules, attributes and their values."""
    return _lines(_said(program("dciodvfy"), "-new", document)[1], "Error")


def set_errors(documents: Iterable[Path], sources: Iterable[Path]) -> list[str]:
    """Return where documents and sources disagree on patient, study, series or equipment (dcentvfy)."""
    return _lines(_said(program("dcentvfy"), *documents, *sources)[1], "Error")


def shared_errors(documents: Iterable[Path], sources: Iterable[Path]) -> list[str]:
    """Return what the judge beside the repository says, by all programs of this module; [] where it finds no error."""
    code, text = _said(program("bash"), shared("tools/validate-dicom"), *documents, "--source", *sources)
    return text.splitlines() if code else []


def tree_errors(report: Path) -> list[str]:
    """Return what DCMTK finds wrong with the content tree of a report."""
    code, text = _said(program("dsrdump"), report)
    return _lines(text, "[EF]:") or ([f"dsrdump ended with {code}"] if code else [])


def template_errors(report: Path) -> list[str]:
    """Return what PixelMed finds wrong by the templates of PS3.16; the first time takes 4 s."""
    text = _pixelmed("DicomSRValidator", report)
    finished = "Root Template Validation Complete" in text
    return _lines(text, "Error") + ([] if finished else [f"not validated to the end: {text[-300:]}"])


def instance_errors(segmentation: Path) -> list[str]:
    """Return what PixelMed finds wrong with a segmentation by PS3.3; the first time takes 4 s."""
    text = _pixelmed("DicomInstanceValidator", segmentation)
    finished = "IOD validation complete" in text
    return _lines(text, "Error") + ([] if finished else [f"not validated to the end: {text[-300:]}"])


def _pixelmed(validator: str, document: Path) -> str:
    """Return what a validator says; where its process ends or takes minutes, what it said until then."""
    process = _validators()
    assert process.stdin
    assert process.stdout
    watch = threading.Timer(_LIMIT_S, process.kill)
    watch.start()
    try:
        process.stdin.write(f"{validator}\n{document}\n")
        process.stdin.flush()
        lines = list(takewhile("END\n".__ne__, process.stdout))
    finally:
        watch.cancel()
    if process.poll() is not None:
        _validators.cache_clear()
    return "".join(lines)


@cache
def _validators() -> subprocess.Popen[str]:
    """Return a process of the validators, which the tests of this process share: it compiles their rules once."""
    if not _PIXELMED.exists():
        pytest.skip(f"{_PIXELMED} is not installed")
    program("javac")  # by which `java` takes a source file
    process = subprocess.Popen(
        [program("java"), *_QUICK, *_XPATH, "-cp", _PIXELMED, Path(__file__).with_name("Validators.java")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def rendered(image: Path) -> NDArray[np.uint8]:
    """Return the pixels as DCMTK shows them."""
    picture = image.with_suffix(".png")
    code, text = _said(program("dcmj2pnm"), "+on", image, picture)
    assert code == 0, text
    return np.asarray(Image.open(picture))


def dcmqi_segments(segmentation: Path, folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Return what dcmqi, by which 3D Slicer opens a segmentation, says of the segments, and its volumes as NRRD."""
    folder.mkdir()
    _dcmqi("segimage2itkimage", "--inputDICOM", segmentation, "--outputDirectory", folder, "-t", "nrrd", "-p", "read")
    return json.loads((folder / "read-meta.json").read_text()), sorted(folder.glob("*.nrrd"))


def dcmqi_measurements(report: Path, folder: Path) -> dict[str, Any]:
    """Return the measurement groups of a report as dcmqi reads them."""
    _dcmqi("tid1500reader", "--inputDICOM", report, "--outputMetadata", folder / "measurements.json")
    values: dict[str, Any] = json.loads((folder / "measurements.json").read_text())
    return values


def _dcmqi(name: str, *arguments: str | Path) -> None:
    spec = importlib.util.find_spec("dcmqi")
    if spec is None or spec.origin is None:
        pytest.skip("dcmqi is not installed")
    code, text = _said(Path(spec.origin).parent / "bin" / name, *arguments)
    assert code == 0, text
    assert "ERROR" not in text, text
