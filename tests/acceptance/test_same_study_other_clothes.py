"""An answer is of the patient, not of the files: order, orientation and compression change nothing."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from support import installed
from support.variants import OF_ANY_IMAGE, OF_SLICES, edited

from ainode.node import testing
from ainode.node.domain import Handler, Result
from ainode.node.encoding import headers
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore

installed("torch", "openvino", "keras", "ultralytics", "monai")

# What a probability may move by: the arithmetic of resampling in another order of axes.
CLOSE = 1e-4
CASES = [
    (name, variant)
    for name in registry.names()
    for variant in (
        OF_SLICES if name in {"ct_pneumonia", "ct_tumor", "lung_nodule", "pancreas_tumor"} else OF_ANY_IMAGE
    )
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clothes")


@cache
def handler(name: str, place: Path) -> Handler:
    return registry.handler(name, ModelEnvironment(WeightStore(place / "site"), place / "networks"))


@cache
def sent(name: str, place: Path) -> tuple[Path, ...]:
    made = handler(name, place).demonstration(seed=5)
    return testing.write(made.images, place / name, study=name, positions_mm=made.positions_mm)


def scores(name: str, paths: tuple[Path, ...], place: Path) -> Mapping[str, float]:
    study = headers.study(tuple(headers.instance(path, sha256="0" * 64) for path in paths))
    answer = pipeline.answer_of(study, handler(name, place))
    assert isinstance(answer, Result), answer
    return answer.scores


@cache
def plain_scores(name: str, place: Path) -> Mapping[str, float]:
    return scores(name, sent(name, place), place)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_the_same_study_in_other_clothes_gets_the_same_answer(name: str, variant: str, place: Path) -> None:
    found = scores(name, edited(sent(name, place), place / f"{name} {variant}", OF_SLICES[variant]), place)
    plain = plain_scores(name, place)
    # A handler without a probability has places and sizes.
    names = {"probability"} & plain.keys() or plain.keys()
    assert {name: found[name] for name in names} == pytest.approx({name: plain[name] for name in names}, abs=CLOSE)
    assert all(0 < plain[name] < 1 for name in {"probability"} & plain.keys())


@pytest.mark.parametrize("name", registry.names())
def test_the_same_study_read_twice_gets_the_same_answer(name: str, place: Path) -> None:
    assert scores(name, sent(name, place), place) == plain_scores(name, place)
