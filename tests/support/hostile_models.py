"""Files of networks that were made to do harm, or that answer nonsense."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from support.graphs import graph_file, mean_nodes, slice_constants


def external_file(path: Path, location: str) -> Path:
    """Write an ONNX file that takes its weights from another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1, 2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    nodes = [*mean_nodes("short"), helper.make_node("Add", ["short", "weights"], ["answer"])]
    return graph_file(path, nodes, [*slice_constants(), tensor])


def terabyte_file(path: Path, *, is_hidden: bool) -> Path:
    """Write an ONNX file that asks for a terabyte: in a constant, or (hidden) by a number of the image itself."""
    size = numpy_helper.from_array(np.asarray([2**38], np.int64), "size")
    shape = "size"
    nodes = mean_nodes("short")
    if is_hidden:
        nodes += [
            helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Min", ["whole", "none"], ["least"]),
            helper.make_node("Max", ["least", "none"], ["nothing"]),
            helper.make_node("Add", ["size", "nothing"], ["asked"]),
        ]
        shape = "asked"
    nodes += [
        helper.make_node("ConstantOfShape", [shape], ["ones"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        helper.make_node("ReduceMean", ["ones"], ["mean"], keepdims=0),
        helper.make_node("Add", ["short", "mean"], ["answer"]),
    ]
    none = numpy_helper.from_array(np.asarray([0], np.int64), "none")
    return graph_file(path, nodes, [*slice_constants(), size, none])


def nonsense_file(path: Path, *, classes: int = 2) -> Path:
    """Write an ONNX file that answers with no numbers (NaN), or with another number of classes."""
    if classes != 2:
        return graph_file(path, mean_nodes(), slice_constants(classes), [("answer", (1, classes))])
    nodes = [*mean_nodes("short"), helper.make_node("Sub", ["short", "short"], ["none"])]
    nodes.append(helper.make_node("Div", ["none", "none"], ["answer"]))
    return graph_file(path, nodes, slice_constants())


class _Command:
    """Runs a command where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Return what unpickling calls."""
        return os.system, (f"touch {self._proof}",)


def pickle_file(path: Path, proof: Path) -> Path:
    """Write a pickle that makes the file `proof` where somebody opens it."""
    path.write_bytes(pickle.dumps(_Command(proof)))
    return path


def pickled_archive(path: Path, proof: Path) -> Path:
    """Write a ZIP that looks like a TorchScript archive, with a pickle as its data."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps(_Command(proof), protocol=2))
        archive.writestr("net/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("net/code/__torch__.py", "")
        archive.writestr("net/version", "3\n")
    return path


def bomb(path: Path) -> Path:
    """Write a .keras file that grows to 128 MiB on unpacking."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        with archive.open("model.weights.h5", "w", force_zip64=True) as file:
            for _ in range(128):
                file.write(bytes(2**20))
    return path


def lambda_file(path: Path) -> Path:
    """Write a .keras file whose configuration has a Lambda layer with code in it."""
    layer = {"class_name": "Lambda", "module": "keras.layers", "config": {"function": {"class_name": "__lambda__"}}}
    config = {"class_name": "Sequential", "module": "keras", "config": {"layers": [layer]}}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"")
    path.write_bytes(content.getvalue())
    return path
