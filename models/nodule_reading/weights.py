"""The names of the weights that a reading of nodules needs, as the manifests list them."""

from __future__ import annotations

from ainode.models.lung_nodule import card as malignancy_card
from ainode.models.nodule_detection import card as detection_card
from ainode.models.nodule_malignancy import card as traits_card
from ainode.models.nodule_outline import card as outline_card

OUTLINE = f"{outline_card.read_card().name}/{outline_card.read_card().network}"
DETECTION = f"{detection_card.read_card().name}/{detection_card.read_card().network}"
TRAITS = f"{traits_card.read_card().name}/{traits_card.read_card().network}"
"""judges an outline by its traits, where a manifest lists it; else the slice network judges"""
MALIGNANCY = f"{malignancy_card.read_card().name}/lidc"
