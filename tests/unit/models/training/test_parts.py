"""Whole groups are held out, and phantoms are drawn into no folder that holds something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ainode.models.errors import ModelError
from ainode.models.training.parts import held_out, refuse_strange_folder

LABELS = np.arange(60) % 2
GROUPS = np.asarray([f"study {number // 4}" if number < 20 else f"study {number}" for number in range(60)])


def test_no_group_is_on_both_sides_and_the_same_seed_holds_out_the_same_whatever_the_order() -> None:
    chosen = held_out(LABELS, GROUPS, share=0.25, seed=3)
    assert not set(GROUPS[chosen]) & set(GROUPS[~chosen])
    assert set(LABELS[chosen]) == set(LABELS[~chosen]) == {0, 1}
    assert 8 <= len(set(GROUPS[chosen])) <= 14
    order = np.random.default_rng(0).permutation(60)
    assert (held_out(LABELS[order], GROUPS[order], share=0.25, seed=3) == chosen[order]).all()
    assert (held_out(LABELS, GROUPS, share=0.25, seed=4) != chosen).any()


def test_of_two_groups_of_a_kind_one_is_held_out_whatever_the_share_and_of_one_none_can_be() -> None:
    labels, groups = [0, 0, 1, 1], ["a", "b", "c", "d"]
    for share in (0.01, 0.99):
        chosen = held_out(labels, groups, share=share, seed=0)
        assert sorted(np.asarray(labels)[chosen]) == [0, 1]
    with pytest.raises(ModelError, match="1 healthy of 3"):
        held_out(labels[1:], groups[1:], share=0.5, seed=0)


def test_phantoms_are_drawn_into_a_folder_that_is_empty_or_their_own(tmp_path: Path) -> None:
    refuse_strange_folder(tmp_path, ("train.npz",), "train.csv")
    (tmp_path / ".gitkeep").touch()
    (tmp_path / "train.npz").touch()
    refuse_strange_folder(tmp_path, ("train.npz",), "train.csv")
    (tmp_path / "patients.xlsx").touch()
    with pytest.raises(ModelError, match=r"looked for train\.csv; there are patients\.xlsx"):
        refuse_strange_folder(tmp_path, ("train.npz",), "train.csv")
    with pytest.raises(ModelError, match="no such folder"):
        refuse_strange_folder(tmp_path / "typo", ("train.npz",), "train.csv")
