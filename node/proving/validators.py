"""The checks by programs that share no code with the node: dicom3tools and PixelMed, where they are installed."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ainode.node.domain import DocumentKind, Reading
from ainode.node.proving.checks import Check, failed, judged, not_applicable, not_checked

_LIMIT_S: Final = 240
_ERROR: Final = re.compile(r"Error", re.IGNORECASE)
# As in: Error - </StudyInstanceUID(0020,000d)> - Illegal root for UID = <999.1>
_VALUE: Final = re.compile(r"> - ([^<>]+ = <.*)$")
_FINISHED: Final = "Root Template Validation Complete"
# PixelMed's templates are larger than a current JDK's default XPath limits.
_JAVA: Final = " ".join(f"-Djdk.xml.xpath{limit}Limit=0" for limit in ("ExprOp", "TotalOp", "ExprGrp"))


def validator_checks(reading: Reading, sources: Sequence[Path], folder: Path) -> Iterator[Check]:
    """Yield the checks of the documents of a reading; `folder` is empty and takes them as files."""
    documents = dict(_written(reading, folder))
    if not documents:
        yield not_applicable("validators", "the reading has no DICOM document")
        return
    yield _by("dciodvfy", "dicom3tools", lambda program: _module_errors(program, tuple(documents), sources))
    yield _by("dcentvfy", "dicom3tools", lambda program: _set_errors(program, tuple(documents), sources))
    reports = [path for path, kind in documents.items() if kind is DocumentKind.STRUCTURED_REPORT]
    yield _by("DicomSRValidator", "pixelmed-apps", lambda program: _template_errors(program, reports))


def _written(reading: Reading, folder: Path) -> Iterator[tuple[Path, DocumentKind]]:
    for number, document in enumerate(reading.documents):
        if not document.kind.is_message:
            path = folder / f"{number:03d}.dcm"
            path.write_bytes(document.content)
            yield path, document.kind


def _by(name: str, package: str, errors: Callable[[str], Iterable[str]]) -> Check:
    """Return the check of a program that is found on PATH."""
    program = shutil.which(name)
    if program is None:
        return not_checked(f"validators, {name}", f"install {package}")
    try:
        return judged(f"validators, {name}", tuple(errors(program)), "0 errors beside those in the source")
    except subprocess.TimeoutExpired:
        return failed(f"validators, {name}", f"it did not end within {_LIMIT_S} s")


def _output(*command: str | Path) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "JAVA_TOOL_OPTIONS": _JAVA}
    done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False, env=environment)  # noqa: S603 - found on PATH
    return (done.stdout + done.stderr).decode(errors="replace")


def _errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if _ERROR.match(line)]


def _module_errors(program: str, documents: Sequence[Path], sources: Sequence[Path]) -> Iterator[str]:
    """Yield the errors of documents; a value that is wrong in a source, such as its UID, is no fault of the model."""
    errors = [(path.stem, line) for path in documents for line in _errors(_output(program, "-new", path))]
    unexplained = {value for _, line in errors if (value := _wrong_value(line))}
    for source in sources:
        if not unexplained:
            break
        unexplained -= {_wrong_value(line) for line in _errors(_output(program, "-new", source))}
    yield from (f"{stem}: {line}" for stem, line in errors if not (value := _wrong_value(line)) or value in unexplained)


def _wrong_value(line: str) -> str:
    """Return what an error says of a value and the value, without the attribute that has it; '' if it names none."""
    match = _VALUE.search(line)
    return match[1] if match else ""


def _set_errors(program: str, documents: Sequence[Path], sources: Sequence[Path]) -> Iterator[str]:
    """Yield where documents and sources disagree; what the sources say of each other is no fault of the model."""
    of_sources = set(_errors(_output(program, *sources)))
    yield from (line for line in _errors(_output(program, *documents, *sources)) if line not in of_sources)


def _template_errors(program: str, reports: Sequence[Path]) -> Iterator[str]:
    for path in reports:
        text = _output(program, path)
        yield from (f"{path.stem}: {line}" for line in _errors(text))
        if _FINISHED not in text:
            yield f"{path.stem}: not validated to the end"
