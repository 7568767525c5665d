"""The errors of a model's files and pictures; a value from the caller causes each of them."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import sys


class ModelError(ValueError):
    """The model cannot be built or run from the caller's files or values."""


class CheckpointRefused(ModelError):
    """The file is not a plain table of weights, or holds the weights of another network."""


class MissingNetwork(ModelError):
    """A network that the card names has no weights; the other networks are never used without it."""


class BundleRefused(ModelError):
    """A MONAI bundle holds what is not run here; each line of the message names file, key and value."""


class BundleFailed(ModelError):
    """A MONAI bundle's own steps cannot read a volume, or end in no answer of the kind that its metadata promises."""


class CardError(ModelError):
    """The card lacks an entry, or has an impossible entry."""


class UnusablePicture(ModelError):
    """The model cannot read the picture; the message has the reason."""


class UniformPicture(UnusablePicture):
    """All values of the picture are one value, or too many of them, for values by their spread."""


class PrecisionRefused(ModelError):
    """The caller's precision moves a probability too far from its value in f32."""


def installation(*extras: str) -> str:
    """Return the command that installs extras of ainode in a checkout, for this Python and as ainode is installed.

    ainode is on no package index.
    """
    option = "" if _is_installed_whole() else "-e "
    python = shlex.quote(sys.executable)
    return f"in the checkout of ainode: {python} -m pip install -c constraints.txt {option}'.[{','.join(extras)}]'"


def _is_installed_whole() -> bool:
    """Return whether ainode is installed apart from its checkout; not so where it runs from the checkout."""
    try:
        # Without this file, what was found is the metadata that lie in the checkout itself.
        if not (origin := importlib.metadata.distribution("ainode").read_text("direct_url.json")):
            return False
        return not json.loads(origin).get("dir_info", {}).get("editable", False)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
