"""What holds of every handler that ships, and of what they share."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.node import ROOT

from ainode.handlers import loaded, misfit, threshold_texts
from ainode.models.errors import CheckpointRefused
from ainode.node import testing
from ainode.node.domain import OutOfScope, Selection
from ainode.node.encoding import headers
from ainode.node.errors import WeightsError
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore


@pytest.mark.parametrize("name", registry.names())
def test_selecting_loads_no_network(name: str) -> None:
    program = (
        f"import sys; from ainode.handlers import {name} as handler; "
        "print(*sorted({'tensorflow', *handler.PACKAGES} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / ".ns")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


def test_a_file_of_another_network_is_the_operators_to_mend(tmp_path: Path) -> None:
    from ainode.models.running.runtime import Execution  # brings torch

    def refuse(path: Path, *, execution: Execution) -> None:
        assert execution == Execution(tmp_path, "cpu", "f32")
        raise CheckpointRefused(f"{path.name}: not the weights of this network")

    environment = ModelEnvironment(WeightStore(tmp_path), tmp_path, device="cpu")
    with pytest.raises(WeightsError, match=r"spine/detector: best\.pt: not the weights of this network"):
        loaded(refuse, Path("best.pt"), name="spine/detector", environment=environment)


@pytest.mark.parametrize(
    ("rows", "header", "code"),
    [(256, {}, None), (255, {}, "too-small"), (256, {"NumberOfFrames": 2}, "multi-frame")],
)
def test_an_image_that_is_too_small_or_several_does_not_fit(
    tmp_path: Path, rows: int, header: dict[str, int], code: str | None
) -> None:
    (path,) = testing.write([testing.noise(rows, 512, **header)], tmp_path, study="study")
    found = misfit(headers.instance(path, sha256=""), 256)
    assert (found[1] if found else None) == code


def test_a_band_is_a_parameter_of_its_own_so_that_another_band_gives_other_documents() -> None:
    assert threshold_texts(0.449, None) == {"threshold": "0.449"}
    assert threshold_texts(0.449, (0.4, 0.5)) == {"threshold": "0.449", "band": "0.4 to 0.5"}
    assert threshold_texts(0.7, (0.6, 0.8), "lung malignant") == {
        "lung malignant threshold": "0.7",
        "lung malignant band": "0.6 to 0.8",
    }


@pytest.mark.parametrize(
    ("header", "code", "reason"),
    [
        ({"RescaleIntercept": -824.0}, "not-hounsfield", "expected near -100 and 40"),
        ({"RescaleIntercept": -1224.0}, "not-hounsfield", "expected near -100 and 40"),
        ({"ReconstructionDiameter": 20.0}, "wrong-pixel-size", "but Reconstruction Diameter is 20 mm"),
    ],
)
@pytest.mark.parametrize("name", ["ct_pneumonia", "ct_tumor", "lung_nodule", "pancreas_tumor"])
def test_a_ct_whose_units_are_wrong_is_refused_by_every_ct_handler(
    name: str, header: dict[str, float], code: str, reason: str, tmp_path: Path
) -> None:
    handler = registry.handler(name, ModelEnvironment(WeightStore(tmp_path), tmp_path))
    demonstration = handler.demonstration(seed=2)
    images = [replace(image, header={**image.header, **header}) for image in demonstration.images]
    paths = testing.write(images, tmp_path / "images", study=name, positions_mm=demonstration.positions_mm)
    answer = pipeline.selection_of(headers.study(headers.instance(path, sha256="") for path in paths), handler)
    assert isinstance(answer, OutOfScope)
    assert answer.code == code
    assert reason in answer.reason


@pytest.mark.parametrize("name", ["ct_pneumonia", "ct_tumor", "lung_nodule", "pancreas_tumor"])
def test_a_ct_whose_values_are_no_hounsfield_units_is_refused_by_every_ct_handler(name: str, tmp_path: Path) -> None:
    handler = registry.handler(name, ModelEnvironment(WeightStore(tmp_path), tmp_path))
    demonstration = handler.demonstration(seed=2)
    scaled = [replace(image, header={**image.header, "RescaleIntercept": 0.0}) for image in demonstration.images]
    for images, code in ((demonstration.images, ""), (scaled, "not-hounsfield")):
        folder = tmp_path / f"images {code}"
        paths = testing.write(images, folder, study=name, positions_mm=demonstration.positions_mm)
        study = headers.study(headers.instance(path, sha256="") for path in paths)
        answer = pipeline.selection_of(study, handler)
        assert (answer.code if isinstance(answer, OutOfScope) else "") == code
        assert isinstance(answer, Selection) or answer.reason.endswith("Hounsfield units are read")
