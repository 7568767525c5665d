"""The pictures of the README: small, of phantoms, described for those who cannot see them."""

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
PICTURES = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))


def test_each_picture_of_the_readme_is_there_small_and_described() -> None:
    assert len(PICTURES) == 3
    for text, name in PICTURES:
        assert len(text.split()) > 30
        assert (ROOT / name).stat().st_size < 300_000
        with Image.open(ROOT / name) as image:
            assert image.width > image.height > 500


def test_the_capture_says_what_it_is_of_and_is_drawn_by_one_command() -> None:
    ((text, name),) = ((text, name) for text, name in PICTURES if "capture" in name)
    assert all(word in text for word in ("synthetic", "present", "threshold", "research use only"))
    assert name in (ROOT / "Makefile").read_text(encoding="utf-8")
