"""The picture of the README: small, of a phantom, described for those who cannot see it, and drawn by one command."""

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def test_the_picture_of_the_readme_is_there_small_and_described() -> None:
    ((text, name),) = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert all(word in text for word in ("synthetic", "present", "threshold", "research use only"))
    picture = ROOT / name
    assert picture.stat().st_size < 300_000
    with Image.open(picture) as image:
        assert image.width > image.height > 500
    assert name in (ROOT / "Makefile").read_text()
