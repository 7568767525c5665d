"""Every model's answer to a healthy and to an ill study: report, texts and capture say the same verdict."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom.sr
import numpy as np
import pytest
from support import installed, judges

installed("cv2", "keras", "openvino", "safetensors", "scipy", "timm", "torch")

from conformance.made import CONTEXT  # noqa: E402
from pydicom import dcmread  # noqa: E402
from pypdf import PdfReader  # noqa: E402
from unit.handlers.test_skin_lesion_handler import shipped  # noqa: E402

from ainode.models.lung_nodule.demonstration import SPACING_MM  # noqa: E402
from ainode.models.phantoms.abdomen import Abdomen, abdomen  # noqa: E402
from ainode.models.phantoms.skin import skin_lesion  # noqa: E402
from ainode.models.phantoms.spine import spine_radiograph  # noqa: E402
from ainode.models.phantoms.thorax import Field, Nodule, Thorax, nodule_position, thorax  # noqa: E402
from ainode.models.phantoms.thorax_anatomy import Build  # noqa: E402
from ainode.node import reports, testing  # noqa: E402
from ainode.node.domain import Handler, Position, Reading, Result, Selection, SyntheticStudy  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.offline import readings as offline  # noqa: E402
from ainode.node.reading import registry  # noqa: E402
from ainode.node.reading.weights import ModelEnvironment  # noqa: E402

PRESENCE = {"52101004": "present", "272519000": "absent", "82334004": "indeterminate"}
"""SCT"""


def a_ct(handler: Handler, phantom: Thorax | Abdomen, *positions_mm: Position) -> SyntheticStudy:
    """Return a phantom as a CT with what the handler's demonstration says of body part, kernel and contrast."""
    demonstration = handler.demonstration(0).images[0].header
    kept = ("BodyPartExamined", "SeriesDescription", "ConvolutionKernel", "ContrastBolusAgent")
    header = {keyword: demonstration[keyword] for keyword in kept if keyword in demonstration}
    return SyntheticStudy(testing.ct(phantom.values, phantom.spacing_mm, frame="verdict", header=header), positions_mm)


def a_spine(handler: Handler, *, ill: bool) -> SyntheticStudy:
    frontal = handler.demonstration(0).images[0]
    random = np.random.default_rng(0)
    phantom = spine_radiograph(random, rows=frontal.rows, columns=frontal.columns, view="AP", abnormal=ill)
    return SyntheticStudy((replace(frontal, pixels=phantom.image.astype("<u2").tobytes()),))


def a_lesion(handler: Handler, *, ill: bool) -> SyntheticStudy:
    (picture,) = handler.demonstration(1).images
    # To weights of photographs a drawn lesion is seldom malignant: of 700 seeds this one has the widest gap.
    pixels = skin_lesion(np.random.default_rng(493), malignant=ill)
    return SyntheticStudy((replace(picture, pixels=pixels.tobytes()),))


def a_chest(handler: Handler, *, ill: bool) -> SyntheticStudy:
    scanned = Field((64, 128, 128), (4.5, 2.8, 2.8))
    return a_ct(handler, thorax(11, 11, scanned=scanned, consolidations=4 if ill else 0))


def an_abdomen(handler: Handler, *, ill: bool) -> SyntheticStudy:
    return a_ct(handler, abdomen(np.random.default_rng(2 if ill else 1), tumor=ill))


def a_nodule(handler: Handler, *, ill: bool) -> SyntheticStudy:
    random = np.random.default_rng([0, 3])
    patient, size_mm = int(random.integers(2**31)), 13.0 if ill else 5.0
    nodule = Nodule(nodule_position(random, patient, size_mm), size_mm, spiculated=ill)
    scanned = Field((40, 192, 192), SPACING_MM, nodule.center_mm(Build.of_patient(patient)))
    phantom = thorax(patient, 0, scanned=scanned, nodules=(nodule,))
    middle = (np.array(scanned.size) - 1) / 2
    z, y, x = ((np.array(phantom.nodule_centers[0]) - middle) * SPACING_MM).tolist()
    return a_ct(handler, phantom, (x, y, z))


STUDIES: dict[str, Callable[..., SyntheticStudy]] = {
    "spine_radiograph": a_spine,
    "skin_lesion": a_lesion,
    "ct_pneumonia": a_chest,
    "ct_tumor": an_abdomen,
    "lung_nodule": a_nodule,
}
CASES = [(name, ill) for name in STUDIES for ill in (True, False)]


@dataclass(frozen=True, slots=True)
class Answer:
    """A study on disk, the model's answer, and the files that were made of the answer."""

    sources: tuple[Path, ...]
    result: Result
    documents: tuple[Path, ...]
    readable: dict[str, str]

    def groups(self) -> list[Any]:
        tree = highdicom.sr.Comprehensive3DSR.from_dataset(dcmread(self.documents[-1])).content
        assert isinstance(tree, highdicom.sr.MeasurementReport)
        return [*tree.get_image_measurement_groups(), *tree.get_planar_roi_measurement_groups()]


@pytest.fixture(scope="module", params=CASES, ids=[f"{name} {'ill' if ill else 'healthy'}" for name, ill in CASES])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bool, Answer]:
    name, ill = request.param
    folder = tmp_path_factory.mktemp("verdicts")
    handler = registry.handler(name, ModelEnvironment(shipped(), folder / "cache", device="cpu"))
    study = STUDIES[name](handler, ill=ill)
    sources = tuple(testing.write(study.images, folder / "study", study="s", positions_mm=study.positions_mm))
    selection = handler.select(headers.study(headers.instance(path, sha256="") for path in sources))
    assert isinstance(selection, Selection), selection
    result = handler.read(selection)
    assert isinstance(result, Result), result
    paths = {headers.instance(path, sha256="").ref.sop_instance_uid: path for path in sources}
    documents = reports.documents(result, paths, CONTEXT)
    written = []
    for number, document in enumerate(documents):
        written.append(folder / f"{document.kind}-{number}.dcm")
        written[-1].write_bytes(document.content)
    summary = reports.result_json(result, CONTEXT)
    pages = PdfReader(BytesIO(reports.report_pdf(result, documents))).pages
    readable = {
        "result.json": summary,
        "report.txt": reports.report_text(result),
        "report.pdf": " ".join(" ".join(page.extract_text() for page in pages).split()),
        "console": offline.verdict(Reading(result, documents, summary, 0.0)),
    }
    return name, ill, Answer(sources, result, tuple(written), readable)


def test_a_healthy_and_an_ill_study_get_another_verdict(case: tuple[str, bool, Answer]) -> None:
    _, ill, answer = case
    assert answer.result.presence == ("present" if ill else "absent"), answer.result.statements


def presences_of(group: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - one of three classes
    """Yield what a group evaluates, and its presence; a quality such as the density is no presence."""
    for item in group.get_qualitative_evaluations():
        if item.value.value in PRESENCE:
            yield item.name.value, PRESENCE[item.value.value]


def test_every_group_of_the_report_says_the_verdict_of_its_finding(case: tuple[str, bool, Answer]) -> None:
    _, _, answer = case
    expected = {
        finding.tracking_identifier: [(concept.value, presence) for concept, presence in finding.evaluations]
        for finding in answer.result.findings
    }
    groups = answer.groups()
    evaluations = {group.tracking_identifier: list(presences_of(group)) for group in groups}
    assert evaluations == expected
    assert all(group.finding_type.value in dict(evaluations[group.tracking_identifier]) for group in groups)
    judged = [group for group in groups if group.get_measurements()]
    assert all("122411" in {item.name.value for item in group.get_measurements()} for group in judged)


def test_a_healthy_study_has_no_group_of_a_disease_without_a_denial(case: tuple[str, bool, Answer]) -> None:
    _, ill, answer = case
    for group in answer.groups() if not ill else ():
        assert "absent" in dict(presences_of(group)).values(), group.tracking_identifier


def test_json_texts_console_and_captures_say_the_verdict_in_the_same_words(case: tuple[str, bool, Answer]) -> None:
    _, _, answer = case
    statements = list(answer.result.statements)
    fields = json.loads(answer.readable["result.json"])
    headline = answer.result.headline
    said = {key: fields["verdict"][key] for key in ("presence", "headline", "statements")}
    assert said == {"presence": answer.result.presence, "headline": headline, "statements": statements}
    assert answer.readable["report.txt"].splitlines()[2 : 2 + len(statements)] == statements
    # what `ainode read`, `ainode demo` and `ainode jobs` print
    assert answer.readable["console"] == headline
    places = [answer.readable["report.pdf"].index(statement) for statement in statements]
    assert max(places) < answer.readable["report.pdf"].index("Findings")
    captures = answer.result.captures
    assert captures
    assert {capture.subject.statement for capture in captures if capture.subject} <= set(statements)
    assert all(capture.subject for capture in captures)


def test_two_captures_and_more_begin_with_a_summary(case: tuple[str, bool, Answer]) -> None:
    _, _, answer = case
    captures = [dcmread(path, stop_before_pixels=True) for path in answer.documents if path.stem.startswith("sc-")]
    count = len(answer.result.captures)
    assert len(captures) == count + (count > 1)
    assert [capture.InstanceNumber for capture in captures] == list(range(1, len(captures) + 1))
    assert ("Summary" in captures[0].DerivationDescription) == (count > 1)


def test_the_judges_that_take_no_second_find_no_error_in_the_documents(case: tuple[str, bool, Answer]) -> None:
    _, _, answer = case
    errors = [error for document in answer.documents for error in judges.module_errors(document)]
    assert [*errors, *judges.tree_errors(answer.documents[-1])] == []
    disagreements = judges.set_errors(answer.documents, answer.sources)
    assert [error for error in disagreements if "AccessionNumber" not in error] == []


@pytest.mark.long
def test_the_judges_find_no_error_in_the_documents(case: tuple[str, bool, Answer]) -> None:
    _, _, answer = case
    assert judges.shared_errors(answer.documents, answer.sources) == []
