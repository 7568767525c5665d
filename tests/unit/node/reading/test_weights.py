import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ainode.node.domain import WeightsStatus
from ainode.node.errors import WeightsError
from ainode.node.reading.weights import WeightsEntry, WeightStore, sha256_of

CONTENT = b"weights of a very small network"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def manifest(folder: Path, **changes: object) -> None:
    values: dict[str, object] = {
        "name": "small",
        "file": "small.safetensors",
        "sha256": DIGEST,
        "bytes": len(CONTENT),
        "licence": "Apache-2.0",
        "model": "spine_radiograph",
        "version": "1",
        "status": "demonstration",
        "training_data": "synthetic",
        **changes,
    }
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in values.items()]
    folder.mkdir(exist_ok=True)
    (folder / "manifest.toml").write_text("[[weights]]\n" + "\n".join(lines))


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    shipped = tmp_path / "shipped"
    manifest(shipped)
    (shipped / "small.safetensors").write_bytes(CONTENT)
    return WeightStore(tmp_path / "site", shipped)


def test_weights_are_handed_out_when_they_are_the_bytes_that_the_manifest_names(store: WeightStore) -> None:
    assert store.verified("small").read_bytes() == CONTENT


def test_weights_with_one_changed_byte_are_refused(store: WeightStore) -> None:
    store.entry("small").path.write_bytes(CONTENT[:-1] + b"K")
    with pytest.raises(WeightsError, match="has sha256"):
        store.verified("small")


def test_absent_weights_are_refused_with_the_command_that_gets_them(store: WeightStore) -> None:
    store.entry("small").path.unlink()
    with pytest.raises(WeightsError, match="ainode weights pull small"):
        store.verified("small")


def test_unknown_weights_are_refused(store: WeightStore) -> None:
    with pytest.raises(WeightsError, match="no manifest names them"):
        store.verified("large")


def test_a_manifest_with_a_missing_key_is_refused_by_its_name(store: WeightStore) -> None:
    (store.shipped / "manifest.toml").write_text('[[weights]]\nname = "small"')
    with pytest.raises(WeightsError, match="entry small"):
        store.entries()


def test_an_imported_file_wins_over_the_shipped_one_and_changes_the_digest(store: WeightStore, tmp_path: Path) -> None:
    before = store.digest(("small",))
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"ours")
    entry = WeightsEntry(
        name="small",
        path=Path(own.name),
        sha256=sha256_of(own),
        size_bytes=4,
        licence="ours",
        model="spine_radiograph",
        version="2",
        status=WeightsStatus.SITE,
        training_data='our "own" studies',
    )
    store.add(own, entry)
    assert store.verified("small").read_bytes() == b"ours"
    assert store.entry("small").status is WeightsStatus.SITE
    assert store.entry("small").training_data == 'our "own" studies'
    assert store.digest(("small",)) != before


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "small.safetensors").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/small.safetensors"
        running.shutdown()


def test_pulled_weights_are_kept_only_if_they_are_the_named_bytes(store: WeightStore, server: str) -> None:
    manifest(store.site, url=server)
    assert store.pull("small") == store.verified("small")
    manifest(store.site, url=server, sha256="0" * 64)
    store.entry("small").path.unlink()
    with pytest.raises(WeightsError, match="other bytes"):
        store.pull("small")
    assert sorted(path.name for path in store.site.iterdir()) == ["manifest.toml"]


def test_an_address_that_does_not_answer_is_an_error_of_the_weights(store: WeightStore) -> None:
    manifest(store.site, url="http://127.0.0.1:1/small.safetensors")
    with pytest.raises(WeightsError, match="does not answer"):
        store.pull("small")
