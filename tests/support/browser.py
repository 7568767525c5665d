"""Debian's Chromium, driven by Playwright, drawing without a graphics card."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from support.servers import program

PATIENCE_MS = 120_000
"""of a page: drawing in software, on a shared machine"""
ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@contextmanager
def page(width: int = 1400, height: int = 900) -> Iterator[Page]:
    """Open a browser with one page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=list(ARGUMENTS))
        try:
            opened = browser.new_page(viewport={"width": width, "height": height})
            opened.set_default_timeout(PATIENCE_MS)
            yield opened
        finally:
            browser.close()
