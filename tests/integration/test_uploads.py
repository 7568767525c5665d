"""Forms with files on a real socket: what stays on the disk, under which names, and what is refused."""

import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

import pytest
from support import free_port, installed
from support.files import content_of

installed("fastapi", "uvicorn", "requests")

import requests  # noqa: E402
from fastapi import FastAPI, Request  # noqa: E402

from ainode.node.settings import NodeTable, Settings, WebTable  # noqa: E402
from ainode.node.web.limits import Complaints  # noqa: E402
from ainode.node.web.server import WebServer  # noqa: E402
from ainode.node.web.uploads import Uploads  # noqa: E402

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Desk:
    """A server that tells what it was sent, and its folder."""

    address: str
    port: int
    data: Path
    counts: list[tuple[int, int]]

    def left(self) -> list[Path]:
        return content_of(self.data / "trials")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    data, port = tmp_path_factory.mktemp("desk"), free_port()
    web = WebTable(port=port, max_upload_bytes=MEBIBYTE, max_upload_files=50)
    uploads = Uploads(Settings(node=NodeTable(data=data, min_free_bytes=0), web=web))
    app, counts = FastAPI(), list[tuple[int, int]]()

    @app.post("/")
    async def take(request: Request) -> dict[str, object]:
        with uploads.folder() as folder:
            form = await uploads.receive(
                request, folder, caller="", on_bytes=lambda received, length: counts.append((received, length))
            )
            files = {
                name: [(file.name, str(file.path.relative_to(folder)), file.path.stat().st_size) for file in files]
                for name, files in form.files.items()
            }
            return {"files": files, "values": form.values}

    full = Uploads(Settings(node=NodeTable(data=data, min_free_bytes=1 << 50), web=web))

    @app.post("/full")
    async def refuse(request: Request) -> None:
        with full.folder() as folder:
            await full.receive(request, folder, caller="")

    server = WebServer(app, web, Complaints())
    server.start()
    yield Desk(f"http://127.0.0.1:{port}/", port, data, counts)
    server.stop()


def test_files_and_values_of_a_form_arrive_and_nothing_is_left(desk: Desk) -> None:
    content = bytes(range(256)) * 1000
    files = [("files", ("a.dcm", content)), ("files", ("ä ö.dcm", b"\r\n--")), ("files_2", ("b.dcm", b"2"))]
    answer = requests.post(desk.address, files=files, data={"model": "spine_radiograph"}, timeout=60)
    assert answer.json() == {
        "files": {
            "files": [["a.dcm", "files/000001", len(content)], ["ä ö.dcm", "files/000002", 4]],
            "files_2": [["b.dcm", "files_2/000003", 1]],
        },
        "values": {"model": "spine_radiograph"},
    }
    assert desk.counts[-1][0] == desk.counts[-1][1] > len(content)
    assert desk.left() == []


@pytest.mark.parametrize("name", ["../../../tmp/escaped", "/etc/passwd", "..", "a\\..\\b", "C:\\x\\y.dcm", "x" * 4000])
def test_a_name_of_a_file_never_becomes_a_path(desk: Desk, name: str) -> None:
    answer = requests.post(desk.address, files={"files": (name, b"content")}, timeout=60)
    ((shown, path, _),) = answer.json()["files"]["files"]
    assert path == "files/000001"
    assert not {"/", "\\"} & set(shown)
    assert len(shown) <= 120
    assert desk.left() == []


@pytest.mark.parametrize(
    ("name", "path"),
    [("../a.NRRD", "files/000001.nrrd"), ("a.nii.gz", "files/000001.nii.gz"), (".png/../x.sh", "files/000001")],
)
def test_the_end_of_a_name_that_promises_a_kind_of_file_is_kept(desk: Desk, name: str, path: str) -> None:
    answer = requests.post(desk.address, files={"files": (name, b"content")}, timeout=60)
    assert answer.json()["files"]["files"][0][1] == path
    assert desk.left() == []


@pytest.mark.parametrize("field", ["../files", "Files", "", "files/..", "x" * 40])
def test_a_name_of_a_field_never_becomes_a_path(desk: Desk, field: str) -> None:
    head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n1\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = requests.post(desk.address, data=head, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "the body is no form: a field has no name of small letters",
    )
    assert desk.left() == []


def test_a_file_that_nobody_chose_is_no_file(desk: Desk) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert requests.post(desk.address, data=body, headers=headers, timeout=60).json()["files"] == {}


def test_an_upload_of_three_gigabytes_is_refused_by_its_length_before_a_byte_of_it(desk: Desk) -> None:
    head = (
        f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {3 << 30}"
        "\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", desk.port), timeout=60) as connection:
        connection.sendall(head.encode())
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 413
        assert b"max_upload_bytes" in answer.read()
    assert desk.left() == []


def test_an_upload_of_untold_length_is_refused_at_the_limit_and_nothing_is_left(desk: Desk) -> None:
    def blocks() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(17):
            yield bytes(MEBIBYTE // 16)
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = requests.post(desk.address, data=blocks(), headers=headers, timeout=60)
    assert (answer.status_code, "max_upload_bytes" in answer.text) == (413, True)
    assert desk.left() == []


def test_an_upload_of_many_files_is_refused_and_nothing_is_left(desk: Desk) -> None:
    files = [("files", (f"{number}.dcm", b"")) for number in range(51)]
    answer = requests.post(desk.address, files=files, timeout=60)
    assert answer.status_code == 413
    assert "more than 50 files ([web] max_upload_files); send fewer, or a ZIP archive" in answer.text
    assert desk.left() == []


def test_an_upload_that_breaks_off_leaves_nothing(desk: Desk) -> None:
    head = (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 500000\r\n\r\n"
    )
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    begun = len(desk.counts)
    with socket.create_connection(("127.0.0.1", desk.port), timeout=60) as connection:
        connection.sendall(head + part + bytes(100_000))
        while len(desk.counts) == begun:
            pass
    while desk.left():
        pass


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n\r\nno name\r\n--b--\r\n", "multipart/form-data; boundary=b", 400),
        (
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\ncut',
            "multipart/form-data; boundary=b",
            400,
        ),
        (b"--b\r\n" + b"x" * 40_000, "multipart/form-data; boundary=b", 400),
        (
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 70_000 + b"\r\n--b--",
            "multipart/form-data; boundary=b",
            413,
        ),
    ],
)
def test_what_is_no_form_is_refused_and_nothing_is_left(
    desk: Desk, body: bytes, content_type: str, status: int
) -> None:
    answer = requests.post(desk.address, data=io.BytesIO(body), headers={"Content-Type": content_type}, timeout=60)
    assert answer.status_code == status
    assert desk.left() == []


def test_an_upload_that_would_fill_the_disk_is_refused(desk: Desk) -> None:
    answer = requests.post(f"{desk.address}full", files={"files": ("a", b"1")}, timeout=60)
    assert (answer.status_code, "less free space than node.min_free_bytes" in answer.text) == (507, True)
    assert desk.left() == []


def test_what_a_killed_node_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    settings = Settings(node=NodeTable(data=tmp_path, min_free_bytes=0))
    (Uploads(settings).new_folder() / "file").write_bytes(b"left")
    Uploads(settings).remove_leftovers()
    assert not list(tmp_path.rglob("*"))
