"""Weight files: which there are, where they came from, and that they are the bytes the manifest names.

Two manifests are read: the one that ships in `weights/`, and the site's own in `<data>/weights/`, which wins.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ainode.node.disk import part_folder, place_durably, sha256_of
from ainode.node.domain import WeightsStatus
from ainode.node.errors import WeightsError
from ainode.node.reading import described, manifest
from ainode.node.reading.manifest import WeightsEntry

if TYPE_CHECKING:  # a reader process starts 0.1 s earlier without the settings
    from ainode.node.routes import Route
    from ainode.node.settings import Settings

__all__ = ["HandlerWeights", "ModelEnvironment", "WeightStore", "WeightsEntry", "environment"]


# Where a person reads what the weights have seen, and how a route may answer with them all the same.
_MORE: Final = "config/README.md, Routes, and `ainode weights list`"
WITHHELD: Final = f"not ready for patients: demonstration weights, so its documents stay in the node; see {_MORE}"
"""`Route.withholding_reason` as a line of a table says it"""


@dataclass(frozen=True, slots=True)
class HandlerWeights:
    """The weights that a handler names, as the manifests list them now."""

    names: tuple[str, ...] = ()
    digest: str = ""
    """over the sha256 of every file; empty while the handler is not ready"""
    demonstration: tuple[str, ...] = ()
    """the names whose status is `demonstration`"""
    demonstration_data: tuple[str, ...] = ()
    """what these have seen, as their manifests say it"""

    def state_of(self, route: "Route") -> tuple[str, str]:
        """Return the state of a live route that reads with these weights, `ready` or `shadow`, and why.

        Of demonstration weights the words say what they have seen, also where the route allows them.
        """
        seen = f"have seen: {'; '.join(self.demonstration_data)}" if self.demonstration_data else ""
        if reason := route.withholding_reason(self.demonstration):
            return "shadow", f"{reason}. They {seen}" if seen else reason
        if not self.demonstration:
            return "ready", ""
        return "ready", f"with demonstration weights, which {seen}" if seen else "with demonstration weights"

    def short_state_of(self, route: "Route") -> tuple[str, str]:
        """Return the same state, with words that fit a line of a table and name the place that says more."""
        state, words = self.state_of(route)
        if state == "shadow":
            return state, WITHHELD
        return state, f"with demonstration weights, see {_MORE}" if words else ""


@dataclass(frozen=True, slots=True)
class ModelEnvironment:
    """What a handler is built with: its weights, where converted networks are cached, how they run."""

    weights: "WeightStore"
    cache: Path
    precision: Literal["f32", "bf16", "auto"] = "f32"
    device: Literal["cpu", "cuda", "auto"] = "auto"
    allows_unconfined: bool = False
    """whether programs of others run where the system cannot confine them"""
    data: Path | None = None
    """the data folder of a node that serves: a confined process reads there what a reading needs, and no more"""
    words: Path | None = None
    """the file that gets what a site's program printed last, where a person runs it by hand"""

    @property
    def models(self) -> Path | None:
        """Return the folder of the models that the site describes; None if there is none."""
        return self.weights.models


def _digest(entries: Iterable[WeightsEntry]) -> str:
    """Return one sha256 over the digests of several entries, in the order given."""
    return hashlib.sha256("".join(entry.digest for entry in entries).encode()).hexdigest()


def _refuse_other_bytes(subject: str, path: Path, sha256: str, remedy: str) -> None:
    """Return if a file has the bytes of a sha256; `remedy` says in {} what was listed.

    Raises: WeightsError.
    """
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{subject} cannot be read: {error.strerror}") from error
    if digest != sha256:
        raise WeightsError(f"{subject} has sha256 {digest[:12]}…, {remedy.format(f'{sha256[:12]}…')}")


@dataclass(frozen=True, slots=True)
class WeightStore:
    """The weights of this installation."""

    site: Path
    shipped: Path = field(default_factory=lambda: Path(str(resources.files("ainode.weights"))))
    models: Path | None = None
    """the folder of the models that the site describes: each is an entry by its name"""

    def entries(self) -> tuple[WeightsEntry, ...]:
        """Return every known file, present or not; the site's own entry of a name wins."""
        listed = (*manifest.entries(self.shipped), *manifest.entries(self.site), *described.entries(self.models))
        by_name = {entry.name: entry for entry in listed}
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
        own = {name: described.entry(name, self.models) for name in names if described.is_described(name, self.models)}
        entries = {entry.name: entry for entry in self.entries()} | own if len(own) < len(names) else own
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
        if not entry.is_present:
            raise WeightsError(f"weights {name!r}: {entry.path.name} is absent; `ainode weights pull {name}` gets it")
        remedy = f"the manifest says {{}}; `ainode weights pull {name}` or restore the file"
        if described.is_described(name, self.models):
            remedy = f"{described.DESCRIPTION} says {{}}; restore the file, or write there what `sha256sum` prints"
        for path, sha256 in ((entry.path, entry.sha256), *entry.companions):
            _refuse_other_bytes(f"weights {name!r}: {path.name}", path, sha256, remedy)
        return entry.path

    def digest(self, names: tuple[str, ...]) -> str:
        """Return one sha256 over the manifest's digests of several files, in the order of their names."""
        return _digest(self._named(sorted(names)))

    def of_handler(self, names: tuple[str, ...]) -> HandlerWeights:
        """Return what the manifests list for the weights that a handler names.

        Raises: WeightsError if no manifest names one of them.
        """
        entries = self._named(names)
        demonstration = [entry for entry in entries if entry.status is WeightsStatus.DEMONSTRATION]
        return HandlerWeights(
            names,
            _digest(sorted(entries, key=lambda entry: entry.name)),
            tuple(entry.name for entry in demonstration),
            tuple(dict.fromkeys(entry.training_data for entry in demonstration if entry.training_data)),
        )

    def status(self, names: Iterable[str]) -> WeightsStatus:
        """Return what several files may be trusted for together: no more than the least of them."""
        return min((entry.status for entry in self._named(tuple(names))), key=list(WeightsStatus).index)

    def pull(self, name: str) -> Path:
        """Download weights to where the manifest expects them and return their path.

        The file appears whole and compared with the manifest, or not at all.

        Raises: WeightsError if the manifest has no address, it does not answer, other bytes come, or the disk refuses.
        """
        from ainode.node.reading.download import download  # noqa: PLC0415 - HTTP is slow to import, and no reader needs it

        entry = self.entry(name)
        if not entry.url:
            raise WeightsError(
                f"weights {name!r}: the manifest has no address for them; see models/{entry.model}/card.toml"
            )
        try:
            with part_folder(entry.path.parent) as folder:
                part = folder / entry.path.name
                download(name, entry.url, part)
                if sha256_of(part) != entry.sha256:
                    raise WeightsError(
                        f"weights {name!r}: {entry.url} gave other bytes than the manifest names; nothing was kept"
                    )
                place_durably(part, entry.path)
                return entry.path
        except OSError as error:
            raise WeightsError(f"weights {name!r}: {entry.path} cannot be written: {error.strerror}") from error

    def add(self, source: Path, entry: WeightsEntry) -> Path:
        """Copy a file of the site's own, write its entry into the site's manifest, return the path of the copy.

        The manifest is written anew: comments in it do not survive. A refused import changes nothing.

        Raises: WeightsError if the site's manifest has that name or that file already, if it cannot hold one of the
        entry's texts, or if the disk refuses.
        """
        try:
            return manifest.add(self.site, source, entry)
        except OSError as error:
            raise WeightsError(f"weights {entry.name!r}: {self.site} cannot be written: {error.strerror}") from error


def environment(settings: "Settings", weights: Path | None = None) -> ModelEnvironment:
    """Return what handlers are built with; `weights` is another folder with a manifest, for a trial."""
    return ModelEnvironment(
        weights=WeightStore(weights or settings.data / "weights", models=settings.models),
        cache=settings.networks,
        precision=settings.reader.precision,
        device=settings.reader.device,
        allows_unconfined=settings.reader.allow_unconfined,
    )
