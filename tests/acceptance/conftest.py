"""Patience with browsers, for all tests of this folder."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _patience() -> None:
    """Let Playwright's `expect` wait as long as its pages do: by itself it gives up after five seconds."""
    try:
        from playwright.sync_api import expect
        from support.browser import PATIENCE_MS
    except ImportError:
        return  # the tests that need it are skipped by name
    expect.set_options(timeout=PATIENCE_MS)
