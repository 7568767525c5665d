"""axe-core, the judge of accessibility, as its package ships it."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page

VERSION = "4.14.1"
_SERIOUS = ("serious", "critical")


def script() -> Path:
    """Return the script of axe-core, or skip: `make axe` fetches it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    path = cache / "ainode-tests" / "axe" / VERSION / "package" / "axe.min.js"
    if not path.exists():
        pytest.skip(f"axe-core {VERSION} is not in {cache}/ainode-tests/axe: `make axe` fetches it")
    return path


def problems(page: Page) -> list[str]:
    """Return the serious problems of an open page, each with the elements that have it."""
    page.evaluate(script().read_text(encoding="utf-8"))
    rows = page.evaluate(
        "axe.run().then(result => result.violations.map(violation => [violation.impact, violation.id, "
        "violation.nodes.map(node => node.target.join(' ') + ' ' + (node.any[0] || {}).message).join('; ')]))"
    )
    return [f"{identifier}: {elements}" for impact, identifier, elements in rows if impact in _SERIOUS]
