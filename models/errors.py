"""What can be wrong with a model's files or its picture; all are values a caller gave."""

from __future__ import annotations


class ModelError(ValueError):
    """The model cannot be built or run from what it was given."""


class CheckpointRefused(ModelError):
    """The file is not a plain table of weights, or not one for this network."""


class MissingNetwork(ModelError):
    """A network that the card names has no weights; the rest is never used without it."""


class CardError(ModelError):
    """The card lacks an entry, or has one that cannot be."""


class UnusablePicture(ModelError):
    """The picture cannot be read by this model; the message says why."""


class PrecisionRefused(ModelError):
    """The precision that was asked for moves a probability further than it may."""
