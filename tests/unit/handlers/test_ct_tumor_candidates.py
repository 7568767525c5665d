"""The lung of a whole chest CT is answered by candidates of the search, with place and size, without a verdict."""

from __future__ import annotations

from dataclasses import replace
from math import dist
from pathlib import Path

import numpy as np
import pytest
from support import installed

installed("cv2", "keras", "openvino", "safetensors", "scipy", "timm", "torch")

from ainode.handlers.ct_tumor import build  # noqa: E402
from ainode.models.phantoms.thorax import Field, Nodule, Thorax, thorax  # noqa: E402
from ainode.node import testing  # noqa: E402
from ainode.node.domain import Region, Result, Selection, Study  # noqa: E402
from ainode.node.encoding import headers  # noqa: E402
from ainode.node.imaging.geometry import Stack, stack  # noqa: E402
from ainode.node.reading.weights import ModelEnvironment, WeightStore  # noqa: E402

pytestmark = pytest.mark.long
SPACING_MM = (2.5, 1.8, 1.8)


@pytest.fixture(scope="module")
def phantom() -> Thorax:
    balls = (Nodule((0.1, 0.3, 0.5), 9.0), Nodule((-0.2, 0.5, -0.5), 14.0))
    return thorax(5, 1, scanned=Field((76, 134, 166), SPACING_MM), nodules=balls)


@pytest.fixture(scope="module")
def study(phantom: Thorax, tmp_path_factory: pytest.TempPathFactory) -> Study:
    header = {"BodyPartExamined": "CHEST", "ConvolutionKernel": "STANDARD"}
    images = testing.ct(phantom.values, phantom.spacing_mm, frame="chest", header=header)
    paths = testing.write(images, tmp_path_factory.mktemp("study"), study="chest")
    return replace(headers.study(headers.instance(path, sha256="") for path in paths), wanted_candidates=3)


@pytest.fixture(scope="module")
def result(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder: Path = tmp_path_factory.mktemp("site")
    handler = build(ModelEnvironment(WeightStore(folder), folder / "networks", device="cpu"))
    selection = handler.select(study)
    assert isinstance(selection, Selection)
    seen = handler.look(selection)
    assert isinstance(seen, Selection)
    answer = handler.read(seen)
    assert isinstance(answer, Result)
    return answer


def test_candidates_lie_where_the_nodules_are(result: Result, study: Study, phantom: Thorax) -> None:
    slices = stack(study.instances)
    assert isinstance(slices, Stack)
    numbers = {instance.ref: number for number, instance in enumerate(slices.instances)}
    places = []
    for finding in result.findings:
        assert isinstance(finding.region, Region)
        column, row = np.mean(finding.region.points[:4], axis=0)
        places.append(slices.position(numbers[finding.evidence[0]], row - 0.5, column - 0.5))
    for center in phantom.nodule_centers:
        z, y, x = center
        middle = slices.position(z, y, x)
        assert min(dist(middle, place) for place in places) < 3


def test_a_candidate_has_probabilities_and_a_size_but_no_verdict(result: Result) -> None:
    assert 2 <= len(result.findings) <= 3
    names = [finding.tracking_identifier for finding in result.findings]
    assert names == [f"candidate {number}" for number in range(1, len(names) + 1)]
    probabilities = [finding.measurements[0].value for finding in result.findings]
    assert result.scores["probability"] == pytest.approx(max(probabilities) / 100, abs=1e-4)
    for finding in result.findings:
        assert finding.is_candidate
        assert finding.verdict is None
        assert finding.label.endswith((" mm, left lung", " mm, right lung"))


def test_candidates_are_numbered_as_the_route_of_nodules_numbers_them_the_surest_first(result: Result) -> None:
    sureness = [finding.measurements[1].value for finding in result.findings]
    assert sureness == sorted(sureness, reverse=True)


def test_each_candidate_is_of_the_side_on_which_it_lies(result: Result, study: Study) -> None:
    columns = int(study.instances[0].text("Columns"))
    for finding in result.findings:
        assert isinstance(finding.region, Region)
        assert finding.laterality is not None
        column = np.mean(finding.region.points[:4], axis=0)[0]
        # Columns run to the left of the patient.
        assert finding.laterality.meaning == ("Left" if column > columns / 2 else "Right")
    assert {finding.laterality.meaning for finding in result.findings if finding.laterality} == {"Left", "Right"}
    for capture in result.captures:
        (finding,) = capture.findings
        assert finding.laterality is not None
        assert f"{finding.laterality.meaning.lower()} lung" in capture.captions[1]


def test_report_and_picture_say_that_a_search_marked_the_candidates(result: Result) -> None:
    parameters = dict(result.algorithm.parameters)
    assert parameters["lung searched"].startswith(f"{len(result.findings)} marked; ")
    assert parameters["lung searched"].endswith("what is not marked was not ruled out")
    # As the route of nodules does, and not the slice network alone, which calls a vessel malignant.
    assert "nodule_malignancy/traits" in parameters["demonstration weights"]
    assert result.algorithm.known_limits == ("lung: candidates of a search learned from implanted nodules",)
    assert len(result.captures) == len(result.findings)
    for capture in result.captures:
        assert capture.saliency is not None
        assert "nobody pointed at it" in capture.captions[-1]
        assert "if this is a nodule" in capture.captions[0]
