"""Weight files: which there are, where they came from, and that they are the bytes the manifest names.

Two manifests are read: the one that ships in `weights/`, and the site's own in `<data>/weights/`, which wins.
"""

import hashlib
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final, Literal

import requests
import tomli_w

from ainode.node.disk import part_folder, place_durably, sha256_of, write_durably
from ainode.node.domain import WeightsStatus
from ainode.node.errors import WeightsError
from ainode.node.settings import Settings

_MANIFEST: Final = "manifest.toml"
# Of each step of a download: the connection, and every pause of the answer.
_TIMEOUT_S: Final = 60.0
_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One file of a manifest."""

    name: str
    path: Path
    sha256: str
    size_bytes: int
    licence: str
    model: str
    version: str
    status: WeightsStatus
    training_data: str
    metrics: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class HandlerWeights:
    """The weights that a handler names, as the manifests list them now."""

    names: tuple[str, ...] = ()
    digest: str = ""
    """over the sha256 of every file; empty while the handler is not ready"""
    demonstration: tuple[str, ...] = ()
    """the names whose status is `demonstration`"""


@dataclass(frozen=True, slots=True)
class ModelEnvironment:
    """What a handler is built with: its weights, where converted networks are cached, how they run."""

    weights: "WeightStore"
    cache: Path
    precision: Literal["f32", "bf16"] = "f32"
    device: Literal["cpu", "cuda", "auto"] = "auto"


def _entry(folder: Path, row: Mapping[str, object]) -> WeightsEntry:
    def text(key: str) -> str:
        return str(row.get(key, ""))

    try:
        return WeightsEntry(
            name=str(row["name"]),
            path=folder / str(row["file"]),
            sha256=str(row["sha256"]),
            size_bytes=int(str(row["bytes"])),
            licence=text("licence"),
            model=text("model"),
            version=text("version"),
            status=WeightsStatus(str(row["status"])),
            training_data=text("training_data"),
            metrics=text("metrics"),
            url=text("url"),
        )
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{folder / _MANIFEST}: entry {text('name') or '?'}: {error}") from error


def _rows(folder: Path) -> list[Mapping[str, object]]:
    """Return the tables of a folder's manifest, none where there is no manifest.

    Raises: WeightsError.
    """
    path = folder / _MANIFEST
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("weights", [])
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as TOML: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WeightsError(f"{path}: `weights` is no array of tables; write each entry below [[weights]]")
    _refuse_repetition(path, rows)
    return rows


def _refuse_repetition(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    for key in ("name", "file"):
        counts = Counter(str(row[key]) for row in rows if key in row)
        for value in (value for value, count in counts.items() if count > 1):
            raise WeightsError(f"{path}: two entries with the {key} {value!r}; rename one, or remove one")


def _entries(folder: Path) -> tuple[WeightsEntry, ...]:
    return tuple(_entry(folder, row) for row in _rows(folder))


def _digest(entries: Iterable[WeightsEntry]) -> str:
    """Return one sha256 over the manifest's digests of several files, in the order given."""
    return hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class WeightStore:
    """The weights of this installation."""

    site: Path
    shipped: Path = field(default_factory=lambda: Path(str(resources.files("ainode.weights"))))

    def entries(self) -> tuple[WeightsEntry, ...]:
        """Return every known file, present or not; the site's own entry of a name wins."""
        by_name = {entry.name: entry for entry in (*_entries(self.shipped), *_entries(self.site))}
        return tuple(by_name.values())

    def entry(self, name: str) -> WeightsEntry:
        """Return the manifest's entry of that name.

        Raises: WeightsError if no manifest names it.
        """
        (entry,) = self._named((name,))
        return entry

    def _named(self, names: Sequence[str]) -> tuple[WeightsEntry, ...]:
        """Return the manifests' entries of these names, after one look into the manifests.

        Raises: WeightsError if no manifest names one of them.
        """
        entries = {entry.name: entry for entry in self.entries()}
        wanting = [name for name in names if name not in entries]
        if wanting:
            raise WeightsError(
                f"weights {wanting[0]!r}: no manifest names them; `ainode weights import` adds a file of your own"
            )
        return tuple(entries[name] for name in names)

    def verified(self, name: str) -> Path:
        """Return the path of weights whose bytes were compared with the manifest just now.

        Raises: WeightsError if the file is absent or is not those bytes.
        """
        entry = self.entry(name)
        if not entry.path.exists():
            raise WeightsError(f"weights {name!r}: {entry.path.name} is absent; `ainode weights pull {name}` gets it")
        digest = sha256_of(entry.path)
        if digest != entry.sha256:
            raise WeightsError(
                f"weights {name!r}: {entry.path.name} has sha256 {digest[:12]}…, the manifest says "
                f"{entry.sha256[:12]}…; `ainode weights pull {name}` or restore the file"
            )
        return entry.path

    def digest(self, names: tuple[str, ...]) -> str:
        """Return one sha256 over the manifest's digests of several files, in the order of their names."""
        return _digest(self._named(sorted(names)))

    def of_handler(self, names: tuple[str, ...]) -> HandlerWeights:
        """Return what the manifests list for the weights that a handler names.

        Raises: WeightsError if no manifest names one of them.
        """
        entries = self._named(names)
        demonstration = (entry.name for entry in entries if entry.status is WeightsStatus.DEMONSTRATION)
        return HandlerWeights(names, _digest(sorted(entries, key=lambda entry: entry.name)), tuple(demonstration))

    def status(self, names: Iterable[str]) -> WeightsStatus:
        """Return what several files may be trusted for together: no more than the least of them."""
        return min((entry.status for entry in self._named(tuple(names))), key=list(WeightsStatus).index)

    def pull(self, name: str) -> Path:
        """Download weights to where the manifest expects them and return their path.

        The file appears whole and compared with the manifest, or not at all.

        Raises: WeightsError if the manifest has no address, it does not answer, other bytes come, or the disk refuses.
        """
        entry = self.entry(name)
        if not entry.url:
            raise WeightsError(
                f"weights {name!r}: the manifest has no address for them; see models/{entry.model}/card.toml"
            )
        try:
            with part_folder(entry.path.parent) as folder:
                part = folder / entry.path.name
                _download(entry.url, part)
                if sha256_of(part) != entry.sha256:
                    raise WeightsError(
                        f"weights {name!r}: {entry.url} gave other bytes than the manifest names; nothing was kept"
                    )
                place_durably(part, entry.path)
                return entry.path
        # requests' errors are OSErrors, too
        except requests.HTTPError as error:
            code = error.response.status_code
            raise WeightsError(f"weights {name!r}: {entry.url} answers HTTP {code}; look at the address") from error
        except requests.RequestException as error:
            raise WeightsError(f"weights {name!r}: {entry.url} does not answer: {error}") from error
        except OSError as error:
            raise WeightsError(f"weights {name!r}: {entry.path} cannot be written: {error.strerror}") from error

    def add(self, source: Path, entry: WeightsEntry) -> Path:
        """Copy a file of the site's own, write its entry into the site's manifest, return the path of the copy.

        The manifest is written anew: comments in it do not survive.

        Raises: WeightsError if the site's manifest has that name or that file already; OSError.
        """
        rows = _rows(self.site)
        target = self.site / entry.path.name
        with part_folder(self.site) as folder:
            part = shutil.copyfile(source, folder / target.name)
            rows.append(_row(entry, part))
            _refuse_repetition(self.site / _MANIFEST, rows)
            place_durably(part, target)
        write_durably(self.site / _MANIFEST, tomli_w.dumps({"weights": rows}).encode())
        return target


def _row(entry: WeightsEntry, file: Path) -> dict[str, str | int]:
    """Return what a manifest says of a file."""
    return {
        "name": entry.name,
        "file": file.name,
        "sha256": sha256_of(file),
        "bytes": file.stat().st_size,
        "licence": entry.licence,
        "model": entry.model,
        "version": entry.version,
        "status": entry.status.value,
        "training_data": entry.training_data,
        "metrics": entry.metrics,
    }


def _download(url: str, path: Path) -> None:
    """Write what an address answers to a file, block by block.

    Raises: requests.RequestException, OSError.
    """
    with requests.get(url, stream=True, timeout=_TIMEOUT_S) as answer, path.open("wb") as file:
        answer.raise_for_status()
        for block in answer.iter_content(_BLOCK_BYTES):
            file.write(block)


def environment(settings: Settings, weights: Path | None = None) -> ModelEnvironment:
    """Return what handlers are built with; `weights` is another folder with a manifest, for a trial."""
    return ModelEnvironment(
        weights=WeightStore(weights or settings.data / "weights"),
        cache=settings.data / "networks",
        precision=settings.reader.precision,
        device=settings.reader.device,
    )
