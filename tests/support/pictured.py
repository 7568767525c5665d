"""The obedient handler with one capture of it: heat over the left half, and both boxes."""

import dataclasses

from ainode.node.domain import Capture, OutOfScope, Result, Saliency, Selection
from ainode.node.reading.weights import ModelEnvironment
from support.handler import Obedient


class Pictured(Obedient):
    """Reads as `Obedient`, and draws what it says."""

    def read(self, selection: Selection) -> Result | OutOfScope:
        said = super().read(selection)
        if isinstance(said, OutOfScope):
            return said
        rows, columns = (int(str(selection.instances[0].header[key])) for key in ("Rows", "Columns"))
        row = bytes([255] * (columns // 2) + [0] * (columns - columns // 2))
        heat = Saliency(rows, columns, row * rows)
        boxes = tuple(one for one in said.findings if one.region)
        capture = Capture(said.key_images[0], "Obedience", ("read by instruction",), heat, boxes)
        return dataclasses.replace(said, captures=(capture,))


def build(environment: ModelEnvironment) -> Pictured:
    del environment
    return Pictured()
