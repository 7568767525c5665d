"""A TorchScript of a site answers each study as if it were the first, and reaches nothing but its tensors."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ainode.models.bundles.weights import refuse_unfit
from ainode.models.described.facts import facts
from ainode.models.described.network import NetworkFile, opened
from ainode.models.errors import CheckpointRefused
from ainode.models.running.runtime import Execution
from ainode.models.running.script import Script
from ainode.models.running.script_archive import OPERATORS, REACHING, read_archive

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch has deprecated its own script

FIRST, SECOND = torch.full((1, 4), 0.9), torch.full((1, 4), 0.06)


class _KeepsList(nn.Module):
    """Answers with what it saw before, which it keeps in a list."""

    seen: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.seen = [torch.zeros(1)]

    def forward(self, picture: Tensor) -> Tensor:
        self.seen.append(picture.amax().reshape(1))
        return self.seen[-2]


class _KeepsNumber(nn.Module):
    """Answers with the highest number that it saw before, which it keeps as a plain attribute."""

    seen: float

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0.0

    def forward(self, picture: Tensor) -> Tensor:
        before = self.seen
        self.seen = max(before, float(picture.max()))
        return torch.full((1,), before)


class _WritesInput(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture.mul_(2.0).amax().reshape(1)


class _KeepsBuffer(nn.Module):
    """Answers with what it saw before, which it keeps in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, picture: Tensor) -> Tensor:
        before = self.seen.clone()
        self.seen.copy_(picture.amax().reshape(1))
        return before


class _Trained(nn.Module):
    """Was exported in training mode: its batch normalization learns from each image."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("spread", torch.ones(4))

    def forward(self, picture: Tensor) -> Tensor:
        nn.functional.batch_norm(picture.repeat(2, 1), self.mean, self.spread, None, None, training=True)
        return self.mean


class _Unfilled(nn.Module):
    """Answers with memory that nobody filled, and with numbers by chance."""

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        return torch.empty(4096), torch.rand(4) + 0 * picture.mean()


class _Bare(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture.mean()


def _kept_in_a_constant() -> Any:  # noqa: ANN401
    """Return a trace that keeps what it saw in a constant of its code."""
    seen = torch.zeros(1)

    def forward(picture: Tensor) -> Tensor:
        before = seen + 0
        return before + 0 * seen.copy_(picture.amax().reshape(1))

    return torch.jit.trace(forward, torch.zeros(1, 4), check_trace=False)


def _saved(module: Any, path: Path) -> Path:  # noqa: ANN401
    module.save(str(path))
    return path


@pytest.mark.parametrize(
    "module", [lambda: torch.jit.script(_KeepsList()), lambda: torch.jit.script(_KeepsNumber()), _kept_in_a_constant]
)
def test_an_image_gets_no_answer_of_the_one_before(tmp_path: Path, module: Callable[[], Any]) -> None:
    network = Script(_saved(module(), tmp_path / "net.pt"))
    network(FIRST)
    assert float(network(SECOND)) == 0.0  # of the same study
    network.renew()
    assert float(network(SECOND)) == 0.0


@pytest.mark.parametrize("is_traced", [True, False])
def test_a_network_that_keeps_nothing_is_loaded_once_for_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_traced: bool
) -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True)).eval()
    picture = torch.rand(1, 1, 8, 8)
    network = Script(
        _saved(torch.jit.trace(layers, picture) if is_traced else torch.jit.script(layers), tmp_path / "net.pt")
    )
    loads: list[object] = []
    load = torch.jit.load

    def counted(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
        loads.append(arguments)
        return load(*arguments, **keywords)

    monkeypatch.setattr(torch.jit, "load", counted)
    torch.testing.assert_close(network(picture), layers(picture))
    torch.testing.assert_close(network(picture), layers(picture))
    assert not loads
    network.renew()
    assert len(loads) == 1


def test_a_script_that_writes_into_its_input_leaves_the_image_as_it_is(tmp_path: Path) -> None:
    path = _saved(torch.jit.script(_WritesInput()), tmp_path / "net.pt")
    network = opened(NetworkFile(path, "torchscript", (1, 4)), Execution(tmp_path))
    image = np.full((1, 4), 0.5, np.float32)
    first, second = (network(image)[0] for _ in range(2))
    assert (first.item(), second.item(), image.max()) == (1.0, 1.0, 0.5)


@pytest.mark.parametrize(("kind", "name"), [(_KeepsBuffer, "seen"), (_Trained, "mean")])
def test_a_module_whose_buffers_change_by_an_image_is_refused(
    tmp_path: Path, kind: Callable[[], nn.Module], name: str
) -> None:
    network = Script(_saved(torch.jit.script(kind()), tmp_path / "net.pt"))
    with pytest.raises(CheckpointRefused, match=rf"keeps what it saw \({name}\).*export it in evaluation mode"):
        network(FIRST)


def test_unfilled_memory_holds_nothing_and_chance_is_the_same_for_each_image(tmp_path: Path) -> None:
    network = Script(_saved(torch.jit.script(_Unfilled()), tmp_path / "net.pt"))
    before = torch.random.get_rng_state()
    (unfilled, first), (_, second) = network(FIRST), network(SECOND)
    assert bool(unfilled.isnan().all())
    torch.testing.assert_close(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def _archive(path: Path, code: str, extra: dict[str, bytes] | None = None) -> Path:
    """Write an archive whose `forward` begins with a line of code, with further entries."""
    source, target = io.BytesIO(), path
    torch.jit.save(torch.jit.script(_Bare()), source)
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as changed:
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename.endswith(".py"):
                text = content.decode()
                place = text.index("\n", text.index("picture: Tensor")) + 1
                content = f"{text[:place]}    {code}\n{text[place:]}".encode()
            changed.writestr(entry.filename, content)
        for name, content in (extra or {}).items():
            changed.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ('t = torch.from_file("/etc/hostname", False, 4, dtype=0)', "its code calls from_file"),
        ('t = "/etc/hostname".from_file(False, 4, dtype=0)', "its code calls from_file"),
        ('t = getattr("/etc/hostname", "from_" "file")(False, 4)', "its code calls from_file"),
        (r't = getattr("/etc/hostname", "from\137file")(False, 4)', "its code calls from_file"),
        ('torch.save(picture, "/tmp/x")', "its code calls save"),
        ('t = ops.image.read_file("/etc/hostname")', "ops.image.read_file, an operator that is not known to compute"),
        ("reading = ops", "its code calls ops, an operator"),
        ('t = ops.prim.rpc_sync("a", "b")', "its code calls rpc_sync"),
        ("t = __torch__.torch.classes.c10d.ProcessGroup(0, 1)", "c10d.ProcessGroup, a class that is not known"),
        ("t = __torch__.torch", "__torch__.torch, a class that is not known"),
        ("(", "its code cannot be read"),
    ],
)
def test_code_that_reaches_beyond_tensors_is_refused_before_torch_opens_the_archive(
    tmp_path: Path, code: str, words: str
) -> None:
    with pytest.raises(CheckpointRefused, match=words):
        Script(_archive(tmp_path / "net.pt", code))


@pytest.mark.parametrize(("name", "look"), [("model.ts", refuse_unfit), ("net.pt", facts)])
def test_code_that_reaches_files_is_refused_where_a_file_is_only_looked_at(
    tmp_path: Path, name: str, look: Callable[[Path], object]
) -> None:
    look(_archive(tmp_path / name, "pass"))
    with pytest.raises(CheckpointRefused, match="its code calls save"):
        look(_archive(tmp_path / name, 'torch.save(picture, "/tmp/x")'))


def test_an_entry_that_two_readers_of_archives_could_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "net.pt", "pass")
    with zipfile.ZipFile(path) as archive:
        name = next(item for item in archive.namelist() if item.endswith(".py"))
    _archive(path, "pass", {name.upper(): b"pass"})
    with pytest.raises(CheckpointRefused, match=r"holds 'code/__torch__\S*' twice"):
        Script(path)


def test_an_object_of_a_class_of_c_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    pickled = b"\x80\x02c__torch__.torch.classes.dist_rpc\nWorkerInfo\n)\x81."
    with pytest.raises(CheckpointRefused, match=r"holds an object of torch\.classes\.dist_rpc"):
        Script(_archive(tmp_path / "net.pt", "pass", {"net/extra.pkl": pickled}))


def test_an_archive_that_grows_on_unpacking_is_refused_before_anything_of_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _packed(_archive(tmp_path / "net.pt", "pass", {"archive/data/1": bytes(80 * 2**20)}))
    assert path.stat().st_size < 2**20

    def unexpected(*_: object) -> bytes:
        raise AssertionError("an entry was unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "read", unexpected)
    for look in (facts, Script):
        with pytest.raises(CheckpointRefused, match=r"net\.pt: grows to 80 MiB on unpacking; no weights do"):
            look(path)


def _packed(path: Path) -> Path:
    """Pack an archive anew, its entries deflated."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(packed := path.with_suffix(".z"), "w", 8) as target:
        for entry in archive.infolist():
            target.writestr(entry.filename, archive.read(entry))
    return packed.rename(path)


def test_an_archive_with_more_code_than_any_network_has_is_refused_unread(tmp_path: Path) -> None:
    path = _archive(tmp_path / "net.pt", "pass", {"archive/code/more.py": b"\n" * (5 * 2**20)})
    with pytest.raises(CheckpointRefused, match="it holds 5 MiB of code, where no network has 4"):
        Script(path)


def test_a_damaged_entry_of_an_archive_is_refused_as_cut_short(tmp_path: Path) -> None:
    path = _packed(_archive(tmp_path / "net.pt", "pass", {"archive/data/1": bytes(range(256)) * 99}))
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("archive/data/1")
    content = bytearray(path.read_bytes())
    start = entry.header_offset + 30 + len(entry.filename)
    content[start : start + 8] = bytes([255]) * 8
    path.write_bytes(content)
    with pytest.raises(CheckpointRefused, match="is no TorchScript, or cut short"):
        facts(path)


def test_every_operator_of_torch_that_takes_the_name_of_a_file_is_known() -> None:
    reaching = {
        schema.name.partition("::")[2]
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.partition("::")[0] in OPERATORS
        and any("file" in argument.name and "str" in str(argument.type) for argument in schema.arguments)
    }
    assert reaching
    assert reaching <= REACHING


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, 2)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, picture: Tensor) -> Tensor:
        return self.cells(self.norm(picture))[0]


def test_usual_modules_answer_as_torch_does(tmp_path: Path) -> None:
    module = _Recurrent().eval()
    network = Script(_saved(torch.jit.script(module), tmp_path / "net.pt"))
    torch.testing.assert_close(network(FIRST), module(FIRST))
    assert read_archive(tmp_path / "net.pt")
