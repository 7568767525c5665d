import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from ainode.node.domain import WeightsStatus
from ainode.node.errors import WeightsError
from ainode.node.reading.weights import WeightsEntry, WeightStore

CONTENT = b"weights of a very small network"
SITE = WeightsStatus.SITE
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


@pytest.mark.parametrize("file", ["../outside.safetensors", "a/../../outside.safetensors", "/outside.safetensors"])
def test_a_manifest_whose_file_leads_out_of_its_folder_is_refused(store: WeightStore, file: str) -> None:
    manifest(store.shipped, file=file)
    with pytest.raises(WeightsError, match=f"entry small: file '{file}' leads out of the folder"):
        store.entries()


def imported(store: WeightStore, source: Path, **changes: str) -> Path:
    values = {"name": "small", "licence": "ours", "model": "spine_radiograph", "version": "2", "training_data": "ours"}
    values |= changes
    return store.add(source, WeightsEntry(path=Path(source.name), sha256="", size_bytes=0, status=SITE, **values))


def test_an_imported_file_wins_over_the_shipped_one_and_changes_the_digest(store: WeightStore, tmp_path: Path) -> None:
    before = store.digest(("small",))
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"ours")
    imported(store, own)
    assert store.verified("small").read_bytes() == b"ours"
    assert store.entry("small").status is SITE
    assert store.digest(("small",)) != before


def test_every_word_that_is_said_of_imported_weights_comes_back(store: WeightStore, tmp_path: Path) -> None:
    own, words = tmp_path / "own.safetensors", 'our "own" studies,\nn = 3 \\ \t ü'
    own.write_bytes(b"ours")
    imported(store, own, training_data=words)
    assert store.entry("small").training_data == words


@pytest.mark.parametrize(
    ("file", "name", "refusal"),
    [("other.safetensors", "small", "name 'small'"), ("own.safetensors", "other", "file 'own.safetensors'")],
)
def test_an_import_under_a_taken_name_is_refused_and_changes_nothing(
    store: WeightStore, tmp_path: Path, *, file: str, name: str, refusal: str
) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"ours")
    imported(store, own)
    before = {path: path.read_bytes() for path in store.site.iterdir()}
    (tmp_path / file).write_bytes(b"later")
    with pytest.raises(WeightsError, match=refusal):
        imported(store, tmp_path / file, name=name)
    assert {path: path.read_bytes() for path in store.site.iterdir()} == before


def test_a_manifest_with_two_entries_of_one_name_is_refused(store: WeightStore) -> None:
    path = store.shipped / "manifest.toml"
    path.write_text(path.read_text() + "\n" + path.read_text().replace("small.safetensors", "other.safetensors"))
    with pytest.raises(WeightsError, match="two entries with the name 'small'"):
        store.entries()


def test_a_manifest_that_is_no_toml_is_an_error_of_the_weights(store: WeightStore) -> None:
    (store.shipped / "manifest.toml").write_text("[[weights]")
    with pytest.raises(WeightsError, match="cannot be read as TOML"):
        store.entries()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a server that cuts `cut.safetensors` off in the middle."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "small.safetensors").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/cut.safetensors":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:-1])
            return None

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_pulled_weights_are_kept_only_if_they_are_the_named_bytes(store: WeightStore, server: str) -> None:
    manifest(store.site, url=f"{server}/small.safetensors")
    assert store.pull("small") == store.verified("small")
    manifest(store.site, url=f"{server}/small.safetensors", sha256="0" * 64)
    store.entry("small").path.unlink()
    with pytest.raises(WeightsError, match="other bytes"):
        store.pull("small")
    assert sorted(path.name for path in store.site.iterdir()) == ["manifest.toml"]


def test_an_address_that_does_not_answer_is_an_error_of_the_weights(store: WeightStore) -> None:
    manifest(store.site, url="http://127.0.0.1:1/small.safetensors")
    with pytest.raises(WeightsError, match="does not answer"):
        store.pull("small")


@pytest.mark.parametrize(
    ("file", "reason"), [("cut.safetensors", "does not answer"), ("absent.safetensors", "answers HTTP 404")]
)
def test_a_failed_download_leaves_the_file_of_before_and_nothing_else(
    store: WeightStore, server: str, *, file: str, reason: str
) -> None:
    manifest(store.site, url=f"{server}/{file}")
    store.entry("small").path.write_bytes(b"before")
    with pytest.raises(WeightsError, match=reason):
        store.pull("small")
    assert store.entry("small").path.read_bytes() == b"before"
    assert sorted(path.name for path in store.site.iterdir()) == ["manifest.toml", "small.safetensors"]


def test_a_download_that_cannot_be_written_is_an_error_of_the_weights(store: WeightStore, server: str) -> None:
    manifest(store.site, url=f"{server}/small.safetensors", file="taken/small.safetensors")
    (store.site / "taken").write_bytes(b"a file where a folder must be")
    with pytest.raises(WeightsError, match="cannot be written"):
        store.pull("small")


@pytest.mark.parametrize("text", ["a\x00b", "a\x1b[2Jb", "a\x7fb", "a\x85b", "a\udcffb"])
@pytest.mark.parametrize("key", ["name", "licence", "model", "version", "training_data"])
def test_a_text_that_no_manifest_holds_is_refused_by_its_key_and_changes_nothing(
    store: WeightStore, tmp_path: Path, key: str, text: str
) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"ours")
    imported(store, own, name="before")
    before = {path: path.read_bytes() for path in store.site.iterdir()}
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"theirs")
    with pytest.raises(WeightsError, match=rf"manifest.toml: entry .*: {key} has the character U\+{ord(text[1]):04X}"):
        imported(store, other, **{key: text})
    assert {path: path.read_bytes() for path in store.site.iterdir()} == before
    assert store.verified("before").read_bytes() == b"ours"


def test_a_file_whose_name_is_no_text_is_refused(store: WeightStore, tmp_path: Path) -> None:
    own = tmp_path / os.fsdecode(b"own\xff.safetensors")
    own.write_bytes(b"ours")
    with pytest.raises(WeightsError, match=r"file has the character U\+DCFF"):
        imported(store, own)
    assert not list(store.site.iterdir())


@pytest.mark.parametrize("raw", [b"\x01", b"\x00", b"\xff", b"\x7f"])
def test_a_control_character_in_a_manifest_is_an_error_that_names_line_and_key(store: WeightStore, raw: bytes) -> None:
    path = store.shipped / "manifest.toml"
    path.write_bytes(path.read_bytes().replace(b"Apache", b"Apa" + raw + b"che"))
    with pytest.raises(WeightsError, match=r"manifest.toml: line 6, key licence: cannot be read as TOML"):
        store.entries()


def test_an_escaped_control_character_in_a_manifest_is_refused_by_its_key(store: WeightStore) -> None:
    path = store.shipped / "manifest.toml"
    path.write_text(path.read_text().replace("small.safetensors", "small\\u0000.safetensors"))
    with pytest.raises(WeightsError, match=r"entry 'small': file has the character U\+0000"):
        store.verified("small")


@pytest.mark.parametrize("value", ['""', '"x"', "[]"])
@pytest.mark.parametrize("key", ["name", "file", "sha256", "bytes", "status"])
def test_a_value_that_no_entry_can_have_is_an_error_of_the_weights(store: WeightStore, key: str, value: str) -> None:
    path = store.shipped / "manifest.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} ")]
    path.write_text("\n".join([*lines, f"{key} = {value}"]))
    with pytest.raises(WeightsError):
        store.verified("small")


@pytest.mark.parametrize("file", ["a" * 300, "small.safetensors/x", "."])
def test_a_path_that_no_disk_has_is_absent(store: WeightStore, file: str) -> None:
    manifest(store.shipped, file=file)
    with pytest.raises(WeightsError, match="is absent"):
        store.verified("small")


@pytest.mark.parametrize("name", ["./own.safetensors", "below/../own.safetensors"])
def test_an_import_onto_the_file_of_an_entry_with_another_spelling_is_refused(
    store: WeightStore, tmp_path: Path, name: str
) -> None:
    manifest(store.site, name="first", file=name)
    (store.site / "own.safetensors").write_bytes(CONTENT)
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"ours")
    with pytest.raises(WeightsError, match=r"file 'own\.safetensors'"):
        imported(store, own, name="second")
    assert (store.site / "own.safetensors").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["manifest.toml", "unlisted.safetensors"])
def test_an_import_overwrites_no_file_that_no_entry_lists(store: WeightStore, tmp_path: Path, name: str) -> None:
    manifest(store.site, name="first", file="first.safetensors")
    (store.site / "unlisted.safetensors").write_bytes(CONTENT)
    before = {path: path.read_bytes() for path in store.site.iterdir()}
    (tmp_path / name).write_bytes(b"ours")
    with pytest.raises(WeightsError, match=f"{name} is no file of an entry; rename"):
        imported(store, tmp_path / name, name="second")
    assert {path: path.read_bytes() for path in store.site.iterdir()} == before


def test_imports_at_the_same_time_lose_no_entry_and_one_of_two_with_one_file_name_is_refused(
    store: WeightStore, tmp_path: Path
) -> None:
    barrier = threading.Barrier(12)

    def result(number: int) -> str:
        source = tmp_path / str(number) / f"{number % 6}.safetensors"
        source.parent.mkdir()
        source.write_bytes(str(number).encode())
        barrier.wait(30)
        try:
            imported(store, source, name=str(number))
        except WeightsError:
            return ""
        return str(number)

    with ThreadPoolExecutor(12) as threads:
        names = list(filter(None, threads.map(result, range(12))))
    assert sorted(int(name) % 6 for name in names) == list(range(6))
    assert [store.verified(name).read_text() for name in names] == names


def test_an_import_that_the_disk_refuses_is_an_error_of_the_weights(store: WeightStore, tmp_path: Path) -> None:
    store.site.write_bytes(b"a file where a folder must be")
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"ours")
    with pytest.raises(WeightsError, match="cannot be written"):
        imported(store, own)
