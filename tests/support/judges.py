"""Programs that share no code with the node, and what they hold against a document. A missing one is a skip."""

import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from support.servers import program

_PIXELMED = Path("/usr/share/java/pixelmed.jar")
# The validators end before a second compiler could repay its work: without it they take half the time.
_QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
# PixelMed's templates are larger than a current JDK's default XPath limits.
_XPATH = [f"-Djdk.xml.xpath{which}Limit=0" for which in ("ExprOp", "TotalOp", "ExprGrp")]


def _said(*command: str | Path) -> tuple[int, str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, timeout=240, check=False, env=environment)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def _lines(text: str, pattern: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(pattern, line)]


def module_errors(document: Path) -> list[str]:
    """Return what dciodvfy finds wrong with modules, attributes and their values."""
    return _lines(_said(program("dciodvfy"), "-new", document)[1], "Error")


def set_errors(documents: Iterable[Path], sources: Iterable[Path]) -> list[str]:
    """Return where documents and sources disagree on patient, study, series or equipment (dcentvfy)."""
    return _lines(_said(program("dcentvfy"), *documents, *sources)[1], "Error")


def tree_errors(report: Path) -> list[str]:
    """Return what DCMTK finds wrong with the content tree of a report."""
    code, text = _said(program("dsrdump"), report)
    return _lines(text, "[EF]:") or ([f"dsrdump ended with {code}"] if code else [])


def template_errors(report: Path) -> list[str]:
    """Return what PixelMed finds wrong by the templates of PS3.16; it takes 4 s."""
    text = _pixelmed("DicomSRValidator", report)
    finished = "Root Template Validation Complete" in text
    return _lines(text, "Error") + ([] if finished else [f"not validated to the end: {text[-300:]}"])


def instance_errors(segmentation: Path) -> list[str]:
    """Return what PixelMed finds wrong with a segmentation by PS3.3; it takes 4 s."""
    text = _pixelmed("DicomInstanceValidator", segmentation)
    finished = "IOD validation complete" in text
    return _lines(text, "Error") + ([] if finished else [f"not validated to the end: {text[-300:]}"])


def _pixelmed(validator: str, document: Path) -> str:
    if not _PIXELMED.exists():
        pytest.skip(f"{_PIXELMED} is not installed")
    name = f"com.pixelmed.validate.{validator}"
    return _said(program("java"), *_QUICK, *_XPATH, "-cp", _PIXELMED, name, document)[1]


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
