"""The model card as a value: its name and version, its file, the probability above which a cell is the nodule's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ainode.models.card import CardReader, ThresholdCard, network_card

read_card = CardReader(Path(__file__).with_name("card.toml"), partial(network_card, ThresholdCard))
