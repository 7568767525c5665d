"""Converts the original's pickles to safetensors, once and offline, without running the code that they name.

    python -m ainode.models.lung_nodule.pickles recurrent models_globattcrnn.pkl scaler_spatiotemp_model.pkl TARGET
    python -m ainode.models.lung_nodule.pickles linear linear_model.pkl scaler_linear_model.pkl TARGET

A pickle is a program. Here a pickle may name only the entries of `_MAKERS`, `_INERT_CLASSES` and `_INERT_MODULE`:
arrays and tensors are rebuilt, every other object becomes its attributes, and any other name ends the conversion.
"""

from __future__ import annotations

import argparse
import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from ainode.models.errors import CheckpointRefused

WeightTable = dict[str, Tensor]

# The classes in the original's files, and those that its code can write into a file.
_INERT_CLASSES = frozenset(
    {
        ("common", "RNNClassifier"),
        ("common", "GRUScratch"),
        ("sklearn.linear_model._logistic", "LogisticRegression"),
        ("sklearn.preprocessing._data", "StandardScaler"),
        ("sklearn.preprocessing._data", "MinMaxScaler"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    }
)
_INERT_MODULE = "torch.nn.modules."
_LEAST_PROTOCOL = b"\x80"
_MOST_VALUES = 2**28


class _InertObject:
    """The attributes of an object in a pickle; none of the object's code."""

    name = ""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise CheckpointRefused(f"{self.name} has a state that is no table of attributes")
        self.__dict__.update(state)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the file holds
        raise CheckpointRefused(f"{type(self).name} has no {name} in this file")


def _storage(content: bytes) -> Any:  # noqa: ANN401  # torch's own storage
    """Return the storage in bytes that `torch.save` wrote, read with `weights_only`."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:  # noqa: ANN401
    """Return the tensor of a storage, as torch rebuilds it."""
    flat = torch.tensor([], dtype=storage.dtype).set_(storage)
    return flat.as_strided(tuple(size), tuple(stride), int(offset)).clone()


def _bytes(text: str, encoding: str) -> bytes:
    """Return the bytes that a pickle of protocol 2 wrote as text."""
    if encoding != "latin1":
        raise CheckpointRefused(f"bytes written as {encoding}; latin1 is read")
    return text.encode("latin1")


def _parameter(data: Tensor, *_: object) -> Tensor:
    """Return a parameter's tensor."""
    return data


def _device(*words: object) -> str:
    """Return the name of a device; all tensors stay on the CPU."""
    return ":".join(str(word) for word in words)


def _empty_array(*_: object) -> _Array:
    return _Array()


def _number(dtype: np.dtype[Any], content: bytes) -> Any:  # noqa: ANN401  # of any plain type
    """Return the NumPy number in its bytes."""
    return np.frombuffer(content, _plain_type(dtype), count=1)[0]


class _Array:
    """An array that takes NumPy's own state: version, shape, type, order, bytes."""

    def __init__(self) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[int, tuple[int, ...], np.dtype[Any], bool, bytes]) -> None:
        _, shape, dtype, fortran, content = state
        flat = np.frombuffer(content, _plain_type(dtype))
        self.values = flat.reshape(shape, order="F" if fortran else "C").copy()


def _plain_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type of numbers or text; refuse any other type."""
    if dtype.kind not in "biufSU" or not dtype.itemsize:
        raise CheckpointRefused(f"an array of {dtype}: only numbers and text are read")
    return dtype


_MAKERS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "device"): _device,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    # Protocol 2 writes sets and bytes so.
    ("__builtin__", "set"): set,
    ("_codecs", "encode"): _bytes,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): _number,
    ("numpy._core.multiarray", "scalar"): _number,
}


class _Reader(pickle._Unpickler):  # noqa: SLF001  # the Python one: joblib's arrays lie between its opcodes
    """Reads a pickle that names only the classes and functions above."""

    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: SLF001, RUF012  # the table that the base class reads

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.file = file

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  # what a pickle asks for
        """Return the function or the inert class for a name in the pickle, or refuse the name."""
        if (module, name) in _MAKERS:
            return _MAKERS[module, name]
        if (module, name) in _INERT_CLASSES or (module.startswith(_INERT_MODULE) and name.isidentifier()):
            return type("_InertObject", (_InertObject,), {"name": f"{module}.{name}"})
        raise CheckpointRefused(
            f"the file asks for {module}.{name}, which is not converted; no code of the file was run"
        )

    def load_build(self) -> None:
        """Fill an object; the array of one of joblib's wrappers lies behind the wrapper in the file."""
        super().load_build()  # type: ignore[misc]  # typeshed leaves the opcodes out
        stack = self.stack  # type: ignore[attr-defined]
        if getattr(type(stack[-1]), "name", "") == "joblib.numpy_pickle.NumpyArrayWrapper":
            stack[-1] = self._array(stack[-1])

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]  # of this class, and for it

    def _array(self, wrapper: _InertObject) -> _Array:
        """Return the array that joblib wrote behind a wrapper."""
        count = int(np.prod(wrapper.shape, dtype=np.int64))
        if count > _MOST_VALUES:
            raise CheckpointRefused(f"an array of {count} values; {_MOST_VALUES} are read at most")
        if wrapper.__dict__.get("numpy_array_alignment_bytes"):
            self.file.read(self.file.read(1)[0])
        dtype = _plain_type(wrapper.dtype)
        array = _Array()
        order = wrapper.order == "F"
        array.__setstate__((1, wrapper.shape, dtype, order, self.file.read(count * dtype.itemsize)))
        return array


def inert_object(path: Path) -> Any:  # noqa: ANN401  # inert objects, arrays, tensors and plain values
    """Return the object in a pickle or an uncompressed joblib file; every object in it is inert.

    Raises: CheckpointRefused, with the name that the file asks for, or with the error that broke the reading.
    """
    content = path.read_bytes()
    if not content.startswith(_LEAST_PROTOCOL):
        raise CheckpointRefused(
            f"{path.name}: not a pickle of protocol 2 or later; write a compressed joblib file anew, where it is "
            "trusted, with joblib.dump(model, path, compress=0)"
        )
    try:
        return _Reader(io.BytesIO(content)).load()
    except CheckpointRefused as error:
        raise CheckpointRefused(f"{path.name}: {error}") from error
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointRefused(f"{path.name}: a broken pickle: {type(error).__name__}: {error}") from error


def module_weights(module: _InertObject, prefix: str = "") -> WeightTable:
    """Return the weights of a module that was pickled whole, under torch's names."""
    table: WeightTable = {}
    attributes = vars(module)
    for name, value in {**attributes["_parameters"], **attributes["_buffers"]}.items():
        if isinstance(value, Tensor):
            table[f"{prefix}{name}"] = value
    for name, child in attributes["_modules"].items():
        if child is not None:
            table |= module_weights(cast("_InertObject", child), f"{prefix}{name}.")
    return table


def scaler_weights(fitted: _InertObject) -> WeightTable:
    """Return mean and scale of a fitted StandardScaler, or the same two from a fitted MinMaxScaler."""
    scale = _values(fitted.scale_)
    if fitted.name.endswith("MinMaxScaler"):
        return {"scaler.mean": -_values(fitted.min_) / scale, "scaler.scale": 1 / scale}
    return {"scaler.mean": _values(fitted.mean_), "scaler.scale": scale}


def recurrent_weights(models: Path, scaling: Path) -> WeightTable:
    """Return the table that `heads.recurrent_head` takes, from the original's two files."""
    content = inert_object(models)
    members = content if isinstance(content, list) else [content]
    table = scaler_weights(inert_object(scaling))
    for number, member in enumerate(members):
        if not isinstance(member, _InertObject) or not member.name.endswith("RNNClassifier"):
            raise CheckpointRefused(f"{models.name}: holds no RNNClassifier, or a list of other things")
        table |= {f"{number}.{key}": value for key, value in module_weights(member).items()}
    return table


def linear_weights(model: Path, scaling: Path) -> WeightTable:
    """Return the table that `heads.linear_head` takes, from the original's two files."""
    fitted = inert_object(model)
    weight, classes = _values(fitted.coef_), fitted.classes_.values
    if weight.shape[0] != 1 or list(classes) != [0, 1]:
        raise CheckpointRefused(f"{model.name}: classes {list(classes)}; a model of benign 0 and malignant 1 is read")
    return scaler_weights(inert_object(scaling)) | {
        "linear.weight": weight[0],
        "linear.bias": _values(fitted.intercept_),
    }


def _values(array: _Array) -> Tensor:
    """Return an array as a tensor in single precision."""
    return torch.from_numpy(array.values.astype(np.float32))


def main() -> None:
    """Run the documented command."""
    parser = argparse.ArgumentParser(description="Convert the original's pickles to safetensors.")
    parser.add_argument("kind", choices=("recurrent", "linear"))
    parser.add_argument("model", type=Path)
    parser.add_argument("scaler", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    try:
        table = (recurrent_weights if arguments.kind == "recurrent" else linear_weights)(
            arguments.model, arguments.scaler
        )
    except CheckpointRefused as error:
        sys.exit(f"refused: {error}")
    save_file({key: value.float().contiguous() for key, value in table.items()}, arguments.target)
    arguments.target.chmod(0o644)
    print("converted:", *sorted(table))  # noqa: T201  # a command's answer


if __name__ == "__main__":
    main()
