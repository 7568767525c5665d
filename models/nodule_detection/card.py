"""The model card as a value: its name and version, its file, its limits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ainode.models.card import CardReader, NetworkCard, network_card

read_card = CardReader(Path(__file__).with_name("card.toml"), partial(network_card, NetworkCard))
