"""Plans of converted graphs: with the weights they were made of, and with no others, they give the converted graph."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from support import installed

installed("openvino", "timm", "torch", "ultralytics")

import openvino as ov  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from ainode.models.errors import ModelError  # noqa: E402
from ainode.models.planning import planned_recipes  # noqa: E402
from ainode.models.running.graph_cache import keep_graph  # noqa: E402
from ainode.models.running.plans import PLANS, planned_graph, write_plan  # noqa: E402
from ainode.models.running.runtime import Recipe, kept_conversion  # noqa: E402

SHAPE = (1, 3, 8, 8)


def network() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1)
    return nn.Sequential(*layers).half().float().eval()


def recipe_of(folder: Path, key: str = "small") -> Recipe:
    """Return the recipe of a small network, its weights in half precision in a folder."""
    path = folder / "weights.safetensors"
    if not path.exists():
        table = network().state_dict()
        save_file({name: value.half() if value.is_floating_point() else value for name, value in table.items()}, path)
    return Recipe(network, SHAPE, key, "small", {"small": path})


def test_a_plan_gives_the_bytes_of_the_conversion(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    converted = kept_conversion(recipe, tmp_path / "cache")
    write_plan(recipe, converted, tmp_path / "plans")
    keep_graph(planned_graph(recipe, tmp_path / "plans"), tmp_path / "planned", "a plan")
    for name in ("graph.xml", "graph.bin"):
        assert (tmp_path / "planned" / name).read_bytes() == (converted.parent / name).read_bytes()


def test_a_plan_is_of_one_set_of_weights_and_of_nothing_else(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    write_plan(recipe, kept_conversion(recipe, tmp_path / "cache"), tmp_path / "plans")
    assert planned_graph(recipe, tmp_path / "plans") is not None
    assert planned_graph(recipe_of(tmp_path, "other"), tmp_path / "plans") is None
    assert planned_graph(recipe, tmp_path / "nowhere") is None
    path = tmp_path / "weights.safetensors"
    table = load_file(path)
    save_file({**table, "0.bias": table["0.bias"] + 1}, path)  # under the key of the weights of before
    assert planned_graph(recipe, tmp_path / "plans") is None
    save_file({name: value for name, value in table.items() if name != "0.bias"}, path)
    assert planned_graph(recipe, tmp_path / "plans") is None


def test_a_plan_of_another_openvino_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(tmp_path)
    write_plan(recipe, kept_conversion(recipe, tmp_path / "cache"), tmp_path / "plans")
    monkeypatch.setattr(ov, "__version__", "another")
    assert planned_graph(recipe, tmp_path / "plans") is None


def test_no_plan_is_written_that_would_hold_weights(tmp_path: Path) -> None:
    wide = nn.Conv2d(3, 4096, 3).eval()
    recipe = Recipe(lambda: wide, SHAPE, "wide", "wide", recipe_of(tmp_path).files)
    with pytest.raises(ModelError, match="are in no file of weights"):
        write_plan(recipe, kept_conversion(recipe, tmp_path / "cache"), tmp_path / "plans")


def test_every_plan_that_ships_is_of_the_weights_that_ship() -> None:
    recipes = list(planned_recipes())
    assert {f"{recipe.plan}.zip" for recipe in recipes} == {path.name for path in PLANS.iterdir()}
    left_alone = [recipe.plan for recipe in recipes if planned_graph(recipe) is None]
    assert not left_alone, f"python -m ainode.models.planning makes the plans anew of {left_alone}"


def test_a_plan_that_ships_answers_as_the_network_of_torch() -> None:
    for recipe in planned_recipes():
        if recipe.plan in {"nodule_outline", "spine_radiograph_detector"}:
            inputs = np.random.default_rng(0).random(recipe.shape, np.float32)
            settings = {"INFERENCE_PRECISION_HINT": "f32"}
            answer = ov.Core().compile_model(planned_graph(recipe), "CPU", settings)(inputs)[0]
            with torch.inference_mode():
                outputs = recipe.build().eval()(torch.from_numpy(inputs))
            expected = (outputs[0] if isinstance(outputs, tuple) else outputs).numpy()
            assert np.allclose(answer, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max()))


def test_a_plan_holds_no_weights() -> None:
    for path in PLANS.iterdir():
        with zipfile.ZipFile(path) as archive:
            assert archive.getinfo("rest.bin").file_size < 1 << 16
