"""What a program wrote, as a stranger's files: one meaning, or none and a reason."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ainode.handlers.program.answer import Answer, agreed_words, answer_in, content_of, numbers_in
from ainode.node.errors import HandlerError


@pytest.mark.parametrize("name", ["../in/task.json", "/etc/passwd", "..", "", "a/b", "link", "hard", "absent", "a\0b"])
def test_no_name_leads_out_of_the_folder_of_an_answer(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    (tmp_path / "secret").write_text("x", encoding="ascii")
    (folder / "hard").hardlink_to(tmp_path / "secret")
    with pytest.raises(HandlerError):
        content_of(folder, name, 100)


def test_an_image_that_the_program_changed_in_its_place_and_copied_is_an_object(tmp_path: Path) -> None:
    """Modules of mercure may change the copies that they were given."""
    (tmp_path / "image").write_bytes(b"as the node has it")
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.dcm").write_bytes(b"as the program changed it")
    assert answer_in(out, [tmp_path / "image"], 100).objects == (b"as the program changed it",)


def test_a_copy_of_an_image_is_no_object_of_the_program(tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    for folder in (images, out):
        folder.mkdir()
        (folder / "x.dcm").write_bytes(b"the image")
    (out / "y.dcm").write_bytes(b"another")
    assert answer_in(out, [images / "x.dcm"], 100).objects == (b"another",)


def test_numbers_are_named_by_their_keys() -> None:
    words = {"a": {"b": 1, "c": {"d": 2.5}}, "e": True, "f": "7", "g": [8]}
    assert numbers_in(words) == {"a.b": 1.0, "a.c.d": 2.5}
    with pytest.raises(HandlerError, match="more than 10000 values"):
        numbers_in({str(number): number for number in range(10_001)})
    with pytest.raises(HandlerError, match="two numbers have the same keys"):
        numbers_in({"a": {"b": 1}, "a.b": 2})
    with pytest.raises(HandlerError, match=r"result.json: a is no number"):
        numbers_in({"a": {"b": 1}}, ("a",))
    with pytest.raises(HandlerError, match=r"result.json: a.b is no number"):
        numbers_in({"a": {"b": "7", "c": None}}, ("a.b", "a.c"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"summary": "ha', r"no whole JSON \(line 1, column 13\)"),
        (b"[]", "no JSON object"),
        (b'{"measurements": {"diameter": NaN}}', "no JSON that can be read"),
        (b"[" * 5_000_000, "no JSON that can be read|no whole JSON"),
        (b"1" * 5000, "no JSON that can be read"),
        (bytes(17 << 20), "a file of 17825792 bytes; 16777216 are read at most"),
    ],
    ids=["half", "a list", "no number", "deep", "digits", "huge"],
)
def test_what_is_no_json_object_is_refused_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(HandlerError, match=reason):
        answer_in(tmp_path, [], 100)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, partial(os.symlink, "/etc/passwd")])
@pytest.mark.parametrize("name", ["result.json", "x.dcm"])
def test_an_answer_is_of_plain_files(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    if name != "result.json":
        (tmp_path / "result.json").write_text("{}", encoding="ascii")
    make(tmp_path / name)
    with pytest.raises(HandlerError, match="a link or a folder"):
        answer_in(tmp_path, [], 100)


def test_a_number_of_hundreds_of_digits_is_refused() -> None:
    with pytest.raises(HandlerError, match=r"no finite number below 1e\+15"):
        numbers_in({"measurements": {"diameter": 10**400}})


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"probabilities": {"nodule": 0.1, "nodule": 0.9}}', encoding="ascii")
    with pytest.raises(HandlerError, match="a key stands twice in one object"):
        answer_in(tmp_path, [], 100)


def test_a_program_that_wrote_nothing_has_no_answer(tmp_path: Path) -> None:
    with pytest.raises(HandlerError, match=r"without a result.json or an object"):
        answer_in(tmp_path, [], 100)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"out_of_scope": False}, "out_of_scope is no text"),
        ({"out_of_scope": ""}, "out_of_scope says nothing"),
        ({"out_of_scope": "too noisy", "findings": [{}]}, "declines the study .* and the program gives an answer"),
        ({"out_of_scope": "too noisy", "masks": ["lung.nii"]}, "declines the study"),
        ({"out_of_scope": "too noisy", "probabilities": {"nodule": 0.95}}, "declines the study"),
        ({"out_of_scope": "too noisy", "measurements": {"left": {"volume": 3}}}, "declines the study"),
        ({"summary": 5}, "summary is no text"),
        ({"measurements": [5]}, "measurements is no object"),
        ({"probabilities": 0.5}, "probabilities is no object"),
        ({"findings": {}}, "findings is no list"),
        ({"masks": "lung.nii"}, "masks is no list"),
        ({"patient": 1}, "1 keys that nobody reads"),
    ],
)
def test_a_word_of_another_kind_is_refused_by_its_key(words: dict[str, object], reason: str) -> None:
    with pytest.raises(HandlerError, match=reason):
        agreed_words(Answer(words, has_words=True, objects=()))


def test_a_program_that_declines_may_leave_its_numbers_empty() -> None:
    words = {"out_of_scope": "too noisy", "probabilities": {"nodule": None}, "measurements": {}, "findings": []}
    assert agreed_words(Answer(words, has_words=True, objects=())) == words


def test_a_key_with_null_says_nothing() -> None:
    assert agreed_words(Answer({"out_of_scope": None, "findings": []}, has_words=True, objects=())) == {"findings": []}
    with pytest.raises(HandlerError, match="declines the study"):
        agreed_words(Answer({"out_of_scope": "too noisy"}, has_words=True, objects=(b"an object",)))
