"""What a program wrote: `result.json`, masks and DICOM objects, read as a stranger's files.

No file is followed out of its folder, none is larger than what the images need, and no word of a file is repeated.
"""

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ainode.node.errors import HandlerError

RESULT: Final = "result.json"
MOST: Final = 1e15
"""below which the numbers of an answer lie"""
_MOST_JSON_BYTES: Final = 16 << 20
_MOST_NAMES: Final = 10_000
_MOST_NUMBERS: Final = 10_000
_DICOM: Final = ".dcm"
_KINDS: Final[dict[str, type]] = {
    "out_of_scope": str,
    "summary": str,
    "probabilities": dict,
    "measurements": dict,
    "findings": list,
    "masks": list,
}
"""the agreed keys of result.json, and what each has"""
_WORDS: Final[dict[type, str]] = {str: "text", dict: "object", list: "list"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The files of an answer."""

    words: Mapping[str, object]
    """of result.json; empty where there is none"""
    has_words: bool
    objects: tuple[bytes, ...]
    """DICOM objects, in the order of their names, without unchanged copies of what was given"""
    names: tuple[str, ...] = ()
    """of all files that it wrote"""


def answer_in(folder: Path, images: Iterable[Path], most_bytes: int) -> Answer:
    """Return what a program wrote into a folder.

    `images` are the files of the node: a program may have changed its copies of them.

    Raises: HandlerError that says what is wrong.
    """
    names = _names(folder)
    objects = [name for name in names if name.endswith(_DICOM)]
    has_words = RESULT in names
    if not has_words and not objects:
        raise HandlerError(f"the program ended without a {RESULT} or an object in its folder for the answer")
    words = _json(content_of(folder, RESULT, _MOST_JSON_BYTES)) if has_words else {}
    image_digests = {_digest(path.read_bytes()) for path in images} if objects else set()
    contents = (content_of(folder, name, most_bytes) for name in objects)
    new_objects = tuple(content for content in contents if _digest(content) not in image_digests)
    return Answer(words, has_words, new_objects, tuple(names))


def read_names(answer: Answer, words: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the files that were read: result.json, DICOM objects, and the masks that words name."""
    masks = words.get("masks", [])
    named = {name for name in masks if isinstance(name, str)} if isinstance(masks, list) else set()
    return frozenset(name for name in answer.names if name == RESULT or name.endswith(_DICOM) or name in named)


def agreed_words(answer: Answer) -> Mapping[str, object]:
    """Return what a program says in the agreed keys; a key with null says nothing.

    Raises: HandlerError that names the key.
    """
    if not answer.has_words:
        raise HandlerError(f"the program ended without a {RESULT} in its folder for the answer")
    if unknown := set(answer.words) - set(_KINDS):
        keys = ", ".join(sorted(_KINDS))
        raise HandlerError(f"{RESULT} has {len(unknown)} keys that nobody reads; the keys are {keys}")
    words = {key: value for key, value in answer.words.items() if value is not None}
    for key, value in words.items():
        if not isinstance(value, _KINDS[key]):
            raise HandlerError(f"{RESULT}: {key} is no {_WORDS[_KINDS[key]]}; leave the key out where there is none")
    if words.get("out_of_scope") == "":
        raise HandlerError(f"{RESULT}: out_of_scope says nothing; leave the key out where the program reads the study")
    if "out_of_scope" in words and (_has_answer(words) or answer.objects):
        raise HandlerError(f"{RESULT} declines the study by out_of_scope, and the program gives an answer all the same")
    return words


def _has_answer(words: Mapping[str, object]) -> bool:
    """Return whether there are findings, masks, or a value that is not null among probabilities and measurements."""
    waiting = [words.get("probabilities"), words.get("measurements")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.values()
        elif value is not None:
            return True
    return bool(words.get("findings") or words.get("masks"))


def content_of(folder: Path, name: str, most_bytes: int) -> bytes:
    """Return the bytes of a file that a program wrote.

    Raises: HandlerError if the name leads elsewhere, or the file is none, or is too large.
    """
    if Path(name).name != name or name in {"", ".", ".."} or "\0" in name:
        raise HandlerError("the program names a file outside of its folder; a plain name is read")
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, UnicodeError) as error:
        raise HandlerError("the program names a file that cannot be read: it is absent, or a link") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise HandlerError("the program wrote something that is no plain file of its own")
        if status.st_size > most_bytes:
            raise HandlerError(f"the program wrote a file of {status.st_size} bytes; {most_bytes} are read at most")
        return file.read(most_bytes)


def numbers_in(words: Mapping[str, object], described: Collection[str] = ()) -> Mapping[str, float]:
    """Return every number of result.json by its keys, joined by dots; a described key with null says nothing.

    Raises: HandlerError if there are too many, one is too large or has the keys of another, or a described key has no
    number.
    """
    numbers: dict[str, float] = {}
    waiting: list[tuple[str, object]] = [*words.items()]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping) and key not in described:
            waiting += [(f"{key}.{name}", item) for name, item in value.items()]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if not abs(value) < MOST:
                raise HandlerError(f"{RESULT}: a value is no finite number below {MOST:g}")
            if key in numbers:
                raise HandlerError(f"{RESULT}: two numbers have the same keys: one of the keys has a dot in it")
            numbers[key] = float(value)
        elif value is not None and key in described:
            raise HandlerError(f"{RESULT}: {key} is no number")
        if len(numbers) + len(waiting) > _MOST_NUMBERS:
            raise HandlerError(f"{RESULT} has more than {_MOST_NUMBERS} values")
    return numbers


def _names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted.

    Raises: HandlerError if something there is no plain file.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink() or not entry.is_file(follow_symlinks=False):
                raise HandlerError("the program wrote a link or a folder into its answer; plain files are read")
            names.append(entry.name)
            if len(names) > _MOST_NAMES:
                raise HandlerError(f"the program wrote more than {_MOST_NAMES} files")
    return sorted(names)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _json(content: bytes) -> Mapping[str, object]:
    """Return the words of result.json.

    Raises: HandlerError that names the place, and nothing of the content.
    """
    try:
        words = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise HandlerError(f"{RESULT} is no whole JSON ({place})") from error
    except (ValueError, RecursionError) as error:
        raise HandlerError(f"{RESULT} is no JSON that can be read ({type(error).__name__})") from error
    if not isinstance(words, dict):
        raise HandlerError(f"{RESULT} is no JSON object: it begins with a brace")
    return words


def _object(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    """Return an object of JSON, in which each key stands once.

    Raises: HandlerError.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        raise HandlerError(f"{RESULT}: a key stands twice in one object")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(name)
