"""Whether a picture file is whole: what decodes pictures for a training fills the missing end of a file with gray."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ainode.models.errors import ModelError

_DECODE_ERRORS = (EOFError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def refuse_damaged(path: Path) -> None:
    """Refuse a file that is absent, is no picture, or ends too early.

    Raises: ModelError with the name of the file.
    """
    if not path.is_file():
        raise ModelError(f"{path}: not there, or no file")
    try:
        with Image.open(path) as file:
            file.load()
    except _DECODE_ERRORS as error:
        raise ModelError(f"{path}: no picture that can be decoded to its end ({type(error).__name__})") from error
