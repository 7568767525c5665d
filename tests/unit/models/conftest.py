"""What several model tests share."""

from __future__ import annotations

import os

import pytest
from unit.models.random_weights import RandomModel, random_model_in


@pytest.fixture(scope="session", autouse=True)
def _ultralytics_writes_nowhere_else(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["YOLO_CONFIG_DIR"] = str(tmp_path_factory.mktemp("session-ultralytics"))


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> RandomModel:
    return random_model_in(tmp_path_factory.mktemp("session-random-weights"))
