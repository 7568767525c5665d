"""A whole node with its console, and persons in a browser who use it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from support.browser import PATIENCE_MS
from support.node import ROOT, RunningNode
from support.servers import free_port, program

PASSWORD = "correct horse battery staple"  # noqa: S105 - of persons that a test makes
ROLES = ("viewer", "reader", "operator", "administrator")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1400, "height": 900}


def web_tables(more: str = "") -> tuple[int, str]:
    """Return a port, and the tables of node.toml that switch the console on."""
    port = free_port()
    return port, f"[web]\nenabled = true\nport = {port}\n\n[console]\n{more}"


@dataclass(frozen=True)
class Console:
    """The console of a running node."""

    node: RunningNode
    port: int
    browser: Browser

    @property
    def address(self) -> str:
        """Return the address that a person types."""
        return f"http://127.0.0.1:{self.port}"

    def person(self, role: str, *, dark: bool = False, phone: bool = False, scripts: bool = True) -> Page:
        """Return a page of a browser in which a person of a role is logged in."""
        context = self.browser.new_context(
            base_url=self.address,
            viewport=PHONE if phone else DESKTOP,
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            device_scale_factor=3 if phone else 1,
            java_script_enabled=scripts,
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        log_in(page, f"the-{role}", PASSWORD)
        return page


def log_in(page: Page, name: str, password: str) -> None:
    """Log a person in, from the first page."""
    page.goto("/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Worklist").wait_for()


def add_persons(node: RunningNode) -> None:
    """Add a person of each role, as an administrator does on the command line."""
    for role in ROLES:
        command = [sys.executable, "-m", "ainode.node.commands.cli", "user", "add", f"the-{role}", "--role", role]
        subprocess.run(
            [*command, "--password-stdin", "--config", str(node.config)],
            input=f"{PASSWORD}\n",
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / ".ns")},
        )


@contextmanager
def launched() -> Iterator[Browser]:
    """Launch Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, port: int, *, phone: bool = False, dark: bool = False, scripts: bool = True) -> Page:
    """Return a page of a new visitor of a console on this machine."""
    context = browser.new_context(
        base_url=f"http://127.0.0.1:{port}",
        viewport=PHONE if phone else DESKTOP,
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
    )
    context.set_default_timeout(PATIENCE_MS)
    return context.new_page()


@contextmanager
def console(node: RunningNode, port: int) -> Iterator[Console]:
    """Open a browser for the console of a running node."""
    with launched() as browser:
        yield Console(node, port, browser)


def picture(page: Page, name: str, *, whole: bool = True) -> Path | None:
    """Keep a picture of the whole page, or of what the screen shows, where CONSOLE_PICTURES names a folder."""
    folder = os.environ.get("CONSOLE_PICTURES")
    if not folder:
        return None
    path = Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    # A picture that is loaded late is loaded now; what cannot be loaded is seen as such.
    page.evaluate(
        "Promise.all([...document.images].filter(image => image.offsetParent)"
        ".map(image => { image.loading = 'eager'; return image.decode().catch(() => null); }))"
    )
    page.screenshot(path=path, full_page=whole)
    return path
