"""Weights that are replaced under the name that a handler asks for, between two studies and during one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.weighted import NAME, Weighted

from ainode.node import testing
from ainode.node.domain import UID, DocumentContext, File, OutOfScope, Request, Result, Selection, WeightsStatus
from ainode.node.errors import WeightsError, WeightsReplaced
from ainode.node.keeping.spool import content_sha256
from ainode.node.reading.loaded_handler import LoadedHandler
from ainode.node.reading.weights import ModelEnvironment, WeightsEntry, WeightStore

CONTEXT = DocumentContext(datetime(2026, 1, 2, tzinfo=UTC), UID("2.25.1"), "test", ("ainode 0",), "00")
DEMONSTRATION, SITE = WeightsStatus.DEMONSTRATION, WeightsStatus.SITE


@pytest.fixture
def models(tmp_path: Path) -> ModelEnvironment:
    return ModelEnvironment(WeightStore(tmp_path / "site", tmp_path / "shipped"), tmp_path / "networks")


def put(models: ModelEnvironment, probability: float, status: WeightsStatus) -> None:
    """Make one file the handler's weights, instead of what its name stood for before."""
    folder = models.weights.site
    (folder / "manifest.toml").unlink(missing_ok=True)
    source = folder.with_name("trained")
    source.write_text(str(probability))
    entry = WeightsEntry(NAME, Path(f"{probability}.txt"), "", 0, "Apache-2.0", "weighted", "1", status, "synthetic")
    models.weights.add(source, entry)


def a_request(folder: Path, order: str = "read") -> Request:
    image = testing.noise(256, 512, SeriesDescription=order, BodyPartExamined="TSPINE")
    (path,) = testing.write([image], folder / order, study=order)
    return Request(UID(testing.uid(order)), (File(path, content_sha256(path)),), CONTEXT)


@pytest.mark.parametrize(("status", "names"), [(DEMONSTRATION, (NAME,)), (SITE, ())])
def test_a_reading_names_its_demonstration_weights(
    models: ModelEnvironment, tmp_path: Path, status: WeightsStatus, names: tuple[str, ...]
) -> None:
    put(models, 0.25, status)
    assert LoadedHandler("support.weighted", models).read(a_request(tmp_path)).demonstration_weights == names


def test_a_refusal_names_the_demonstration_weights_of_its_handler_too(models: ModelEnvironment, tmp_path: Path) -> None:
    put(models, 0.25, DEMONSTRATION)
    reading = LoadedHandler("support.weighted", models).read(a_request(tmp_path, "decline"))
    assert isinstance(reading.answer, OutOfScope)
    assert reading.demonstration_weights == (NAME,)


def test_a_network_in_memory_does_not_answer_for_the_weights_that_replaced_it(
    models: ModelEnvironment, tmp_path: Path
) -> None:
    handler = LoadedHandler("support.weighted", models)
    request = a_request(tmp_path)
    for probability, status in ((0.25, DEMONSTRATION), (0.75, SITE)):
        put(models, probability, status)
        answer = handler.read(request).answer
        assert isinstance(answer, Result)
        assert (answer.scores["probability"], answer.algorithm.weights_status) == (probability, status)


def test_an_unchanged_manifest_loads_no_network_twice(models: ModelEnvironment, tmp_path: Path) -> None:
    put(models, 0.25, SITE)
    handler = LoadedHandler("support.weighted", models)
    request = a_request(tmp_path)
    handler.read(request)
    models.weights.verified(NAME).write_text("0.75")  # a network that was loaded again would refuse this file
    assert handler.read(request).answer.scores["probability"] == 0.25  # type: ignore[union-attr]


def _replaced(models: ModelEnvironment) -> None:
    put(models, 0.75, SITE)


def _broken(models: ModelEnvironment) -> None:
    (models.weights.site / "manifest.toml").write_text("[[weights")


@pytest.mark.parametrize(("change", "error"), [(_replaced, WeightsReplaced), (_broken, WeightsError)])
def test_a_manifest_that_changes_during_a_reading_makes_it_no_answer(
    models: ModelEnvironment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[ModelEnvironment], None],
    error: type[WeightsError],
) -> None:
    put(models, 0.25, DEMONSTRATION)
    read = Weighted.read

    def slow(self: Weighted, selection: Selection) -> Result | OutOfScope:
        answer = read(self, selection)
        change(models)
        return answer

    monkeypatch.setattr(Weighted, "read", slow)
    request = replace(a_request(tmp_path), report_out_of_scope=True)
    with pytest.raises(error):
        LoadedHandler("support.weighted", models).read(request)
