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
    """Return the serious problems of an open page, each with the elements that have it.

    The script runs in a world of its own of the browser, where the policy of the page does not hold.
    """
    session = page.context.new_cdp_session(page)
    frame = session.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
    world = session.send("Page.createIsolatedWorld", {"frameId": frame})["executionContextId"]

    def run(expression: str) -> object:
        answer = session.send(
            "Runtime.evaluate",
            {"expression": expression, "contextId": world, "awaitPromise": True, "returnByValue": True},
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    run(script().read_text(encoding="utf-8"))
    rows = run(
        "axe.run().then(result => result.violations.map(violation => [violation.impact, violation.id, "
        "violation.nodes.map(node => node.target.join(' ') + ' ' + (node.any[0] || {}).message).join('; ')]))"
    )
    session.detach()
    assert isinstance(rows, list)
    return [f"{identifier}: {elements}" for impact, identifier, elements in rows if impact in _SERIOUS]
