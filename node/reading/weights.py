"""Weight files: which there are, where they came from, and that they are the bytes the manifest names.

Two manifests are read: the one that ships in `weights/`, and the site's own in `<data>/weights/`, which wins.
"""

import hashlib
import shutil
import tomllib
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

from ainode.node.disk import sha256_of
from ainode.node.domain import WeightsStatus
from ainode.node.errors import WeightsError
from ainode.node.settings import Settings


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
        raise WeightsError(f"{folder / 'manifest.toml'}: entry {text('name') or '?'}: {error}") from error


def _manifest(folder: Path) -> tuple[WeightsEntry, ...]:
    path = folder / "manifest.toml"
    if not path.exists():
        return ()
    rows = tomllib.loads(path.read_text(encoding="utf-8")).get("weights", [])
    return tuple(_entry(folder, row) for row in rows)


@dataclass(frozen=True, slots=True)
class WeightStore:
    """The weights of this installation."""

    site: Path
    shipped: Path = field(default_factory=lambda: Path(str(resources.files("ainode.weights"))))

    def entries(self) -> tuple[WeightsEntry, ...]:
        """Return every known file, present or not; the site's own entry of a name wins."""
        by_name = {entry.name: entry for entry in (*_manifest(self.shipped), *_manifest(self.site))}
        return tuple(by_name.values())

    def entry(self, name: str) -> WeightsEntry:
        """Return the manifest's entry of that name.

        Raises: WeightsError if no manifest names it.
        """
        for entry in self.entries():
            if entry.name == name:
                return entry
        raise WeightsError(f"weights {name!r}: no manifest names them; `ainode weights import` adds a file of your own")

    def verified(self, name: str) -> Path:
        """Return the path of weights whose bytes were compared with the manifest just now.

        Raises: WeightsError if the file is absent or is not those bytes.
        """
        entry = self.entry(name)
        if not entry.path.exists():
            raise WeightsError(f"weights {name!r}: {entry.path.name} is absent; `ainode weights pull {name}` gets it")
        found = sha256_of(entry.path)
        if found != entry.sha256:
            raise WeightsError(
                f"weights {name!r}: {entry.path.name} has sha256 {found[:12]}…, the manifest says "
                f"{entry.sha256[:12]}…; `ainode weights pull {name}` or restore the file"
            )
        return entry.path

    def digest(self, names: tuple[str, ...]) -> str:
        """Return one sha256 over the manifest's digests of several files, in the order of their names."""
        return hashlib.sha256("".join(self.entry(name).sha256 for name in sorted(names)).encode()).hexdigest()

    def status(self, names: Iterable[str]) -> WeightsStatus:
        """Return what several files may be trusted for together: no more than the least of them."""
        return min((self.entry(name).status for name in names), key=list(WeightsStatus).index)

    def pull(self, name: str) -> Path:
        """Download weights to the site's folder and return their path.

        Raises: WeightsError if the manifest has no address, it does not answer, or other bytes come.
        """
        entry = self.entry(name)
        if not entry.url:
            raise WeightsError(
                f"weights {name!r}: the manifest has no address for them; see models/{entry.model}/card.toml"
            )
        self.site.mkdir(parents=True, exist_ok=True)
        part = self.site / f"{entry.path.name}.part"
        try:
            with urllib.request.urlopen(entry.url) as answer, part.open("wb") as file:  # noqa: S310 - the manifest's own
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise WeightsError(f"weights {name!r}: {entry.url} does not answer: {error}") from error
        if sha256_of(part) != entry.sha256:
            part.unlink()
            raise WeightsError(
                f"weights {name!r}: {entry.url} gave other bytes than the manifest names; nothing was kept"
            )
        return part.replace(entry.path)

    def add(self, source: Path, entry: WeightsEntry) -> Path:
        """Copy a file of the site's own, write its entry into the site's manifest, return its path."""
        self.site.mkdir(parents=True, exist_ok=True)
        target = self.site / entry.path.name
        shutil.copyfile(source, target)
        lines = ["", "[[weights]]"]
        values = {
            "name": entry.name,
            "file": target.name,
            "sha256": sha256_of(target),
            "bytes": target.stat().st_size,
            "licence": entry.licence,
            "model": entry.model,
            "version": entry.version,
            "status": entry.status.value,
            "training_data": entry.training_data,
            "metrics": entry.metrics,
        }
        lines += [f"{key} = {value if isinstance(value, int) else _toml_text(value)}" for key, value in values.items()]
        with (self.site / "manifest.toml").open("a", encoding="utf-8") as manifest:
            manifest.write("\n".join(lines) + "\n")
        return target


def _toml_text(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def environment(settings: Settings, weights: Path | None = None) -> ModelEnvironment:
    """Return what handlers are built with; `weights` is another folder with a manifest, for a trial."""
    return ModelEnvironment(
        weights=WeightStore(weights or settings.data / "weights"),
        cache=settings.data / "networks",
        precision=settings.reader.precision,
        device=settings.reader.device,
    )
