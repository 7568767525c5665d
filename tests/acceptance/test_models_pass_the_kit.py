"""The models that ship pass the kit that `ainode model test` holds every model to."""

from pathlib import Path

import pytest
from support import installed

from ainode.node.proving.kit import Kit, is_passed
from ainode.node.reading import registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore
from ainode.node.settings import Settings

installed("cv2", "keras", "monai", "openvino", "safetensors", "timm", "torch", "ultralytics")
DESCRIBED = {"classify", "detect", "program", "segment"}
"""handlers that read by a description of a site, and have no model of their own"""
SHIPPED = [name for name in registry.names() if name not in DESCRIBED]


@pytest.mark.long
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_passes_the_kit(name: str, tmp_path: Path) -> None:
    models = ModelEnvironment(WeightStore(tmp_path / "site"), tmp_path / "networks")
    lines: list[str] = []
    assert is_passed(Kit(name, Settings(), models, lines.append).run(None, 3)), "\n".join(lines)
