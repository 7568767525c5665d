"""Converts the original's pickles to safetensors, once and offline, without running what they say.

    python -m ainode.models.lung_nodule.pickles recurrent models_globattcrnn.pkl scaler_spatiotemp_model.pkl TARGET
    python -m ainode.models.lung_nodule.pickles linear linear_model.pkl scaler_linear_model.pkl TARGET

A pickle is a program. Here it may name only what stands in `_MAKERS` and `_INERT`: arrays and tensors are
rebuilt, every other object becomes a bag of its attributes, and any other name ends the conversion.
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

Table = dict[str, Tensor]

# What the files of the original were seen to hold, or are known to from its code: modules by name.
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


class _Bag:
    """An object of a pickle as nothing but its attributes."""

    name = ""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise CheckpointRefused(f"{self.name} has a state that is no table of attributes")
        self.__dict__.update(state)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the file holds
        raise CheckpointRefused(f"{type(self).name} has no {name} in this file")


def _storage(content: bytes) -> Any:  # noqa: ANN401  # torch's own storage
    """Return the storage in the bytes of `torch.save`, read with `weights_only`."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:  # noqa: ANN401
    whole = torch.tensor([], dtype=storage.dtype).set_(storage)
    return whole.as_strided(tuple(size), tuple(stride), int(offset)).clone()


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise CheckpointRefused(f"bytes written as {encoding}; latin1 is read")
    return text.encode("latin1")


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _device(*words: object) -> str:
    return ":".join(str(word) for word in words)


def _empty_array(*_: object) -> _Array:
    return _Array()


def _number(dtype: np.dtype[Any], content: bytes) -> Any:  # noqa: ANN401  # of any plain type
    return np.frombuffer(content, _plain(dtype), count=1)[0]


class _Array:
    """An array that fills itself from NumPy's own state: version, shape, type, order, bytes."""

    def __init__(self) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[int, tuple[int, ...], np.dtype[Any], bool, bytes]) -> None:
        _, shape, dtype, fortran, content = state
        flat = np.frombuffer(content, _plain(dtype))
        self.values = flat.reshape(shape, order="F" if fortran else "C").copy()


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
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
    """Reads a pickle that may name nothing but what is listed above."""

    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: SLF001, RUF012  # the table that the base class reads

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.file = file

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401  # what a pickle asks for
        """Return the stand-in of a name, or refuse it."""
        if (module, name) in _MAKERS:
            return _MAKERS[module, name]
        if (module, name) in _INERT_CLASSES or (module.startswith(_INERT_MODULE) and name.isidentifier()):
            return type("_Bag", (_Bag,), {"name": f"{module}.{name}"})
        raise CheckpointRefused(f"the file asks for {module}.{name}, which is not converted; nothing of it was run")

    def load_build(self) -> None:
        """Fill an object; behind one of joblib's wrappers its array lies in the file."""
        super().load_build()  # type: ignore[misc]  # typeshed leaves the opcodes out
        stack = self.stack  # type: ignore[attr-defined]
        if getattr(type(stack[-1]), "name", "") == "joblib.numpy_pickle.NumpyArrayWrapper":
            stack[-1] = self._array(stack[-1])

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]  # of this class, and for it

    def _array(self, wrapper: _Bag) -> _Array:
        count = int(np.prod(wrapper.shape, dtype=np.int64))
        if count > _MOST_VALUES:
            raise CheckpointRefused(f"an array of {count} values; {_MOST_VALUES} are read at most")
        if wrapper.__dict__.get("numpy_array_alignment_bytes"):
            self.file.read(self.file.read(1)[0])
        dtype = _plain(wrapper.dtype)
        found = _Array()
        order = wrapper.order == "F"
        found.__setstate__((1, wrapper.shape, dtype, order, self.file.read(count * dtype.itemsize)))
        return found


def opened(path: Path) -> Any:  # noqa: ANN401  # bags, arrays, tensors and plain values
    """Return what a pickle or an uncompressed joblib file holds, every object of it inert.

    Raises: CheckpointRefused, naming what the file asked for, or how it is broken.
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


def state_dict(module: _Bag, prefix: str = "") -> Table:
    """Return the weights of a module that was pickled whole, under the names torch gives them."""
    table: Table = {}
    own = vars(module)
    for name, value in {**own["_parameters"], **own["_buffers"]}.items():
        if isinstance(value, Tensor):
            table[f"{prefix}{name}"] = value
    for name, child in own["_modules"].items():
        if child is not None:
            table |= state_dict(cast("_Bag", child), f"{prefix}{name}.")
    return table


def scaler(fitted: _Bag) -> Table:
    """Return mean and scale of a fitted StandardScaler, or the same in a MinMaxScaler's words."""
    scale = _values(fitted.scale_)
    if fitted.name.endswith("MinMaxScaler"):
        return {"scaler.mean": -_values(fitted.min_) / scale, "scaler.scale": 1 / scale}
    return {"scaler.mean": _values(fitted.mean_), "scaler.scale": scale}


def recurrent(models: Path, scaling: Path) -> Table:
    """Return the table of `heads.recurrent_head` from the original's two files."""
    found = opened(models)
    members = found if isinstance(found, list) else [found]
    table = scaler(opened(scaling))
    for number, member in enumerate(members):
        if not isinstance(member, _Bag) or not member.name.endswith("RNNClassifier"):
            raise CheckpointRefused(f"{models.name}: holds no RNNClassifier, or a list of other things")
        table |= {f"{number}.{key}": value for key, value in state_dict(member).items()}
    return table


def linear(model: Path, scaling: Path) -> Table:
    """Return the table of `heads.linear_head` from the original's two files."""
    fitted = opened(model)
    weight, classes = _values(fitted.coef_), fitted.classes_.values
    if weight.shape[0] != 1 or list(classes) != [0, 1]:
        raise CheckpointRefused(f"{model.name}: classes {list(classes)}; a model of benign 0 and malignant 1 is read")
    return scaler(opened(scaling)) | {"linear.weight": weight[0], "linear.bias": _values(fitted.intercept_)}


def _values(array: _Array) -> Tensor:
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
        table = (recurrent if arguments.kind == "recurrent" else linear)(arguments.model, arguments.scaler)
    except CheckpointRefused as error:
        sys.exit(f"refused: {error}")
    save_file({key: value.float().contiguous() for key, value in table.items()}, arguments.target)
    arguments.target.chmod(0o644)
    print("converted:", *sorted(table))  # noqa: T201  # a command's answer


if __name__ == "__main__":
    main()
