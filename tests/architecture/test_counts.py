"""Counts with nouns, in templates: one function writes them, so that no page says `1 readings`."""

import re
from pathlib import Path

_TEMPLATES = Path(__file__).resolve().parents[2] / "node" / "console" / "templates"
# `3 of 5 documents` is not meant: there the noun belongs to the whole, which may be any number.
_BARE_COUNT = re.compile(r"(?<!of )\{\{[^}|]*(?:count|length|\.n)\s*\}\} (?:[a-z]+ )?[a-z]+s\b")


def test_no_template_writes_a_plural_noun_behind_a_count_by_itself() -> None:
    bare = [
        f"{path.name}: {match[0]}"
        for path in sorted(_TEMPLATES.glob("*.html"))
        for match in _BARE_COUNT.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not bare
