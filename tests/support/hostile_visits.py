"""A person who types the name of a patient into every place of the console, and uploads files that have the name."""

import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import requests

from ainode.node.keeping.people import People, Role
from support.node import RunningNode

WORDS = "four words of a person"
_FORMS = {
    "/console/search": "text",
    "/console/persons": "name",
    "/console/theme": "address",
    "/console/worklist/cancel": "only",
    "/console/trials/example": "model",
    "/console/system/test": "csrf",
    "/console/password": "current",
    "/console/login": "name",
}
_PAGES = ("", "unread", "judgements", "models", "answers", "compare", "system/records", "routes", "trials", "login")
_LINK = re.compile(r'(?:href|src|hx-get)="(/console/studies/[^"#]*)')


class HostileVisit:
    """The visit of an administrator."""

    def __init__(self, node: RunningNode, port: int) -> None:
        """Add a person to the node, and log in."""
        self.address, self.session = f"http://127.0.0.1:{port}", requests.Session()
        # The node may end a kept connection at any moment, and a browser asks again by itself.
        self.session.headers["Connection"] = "close"
        People(node.engine).add("eve", Role.ADMINISTRATOR, WORDS, datetime.now(UTC))
        fields = {"csrf": self.csrf("/console/login"), "name": "eve", "password": WORDS}
        assert self.call("POST", "/console/login", data=fields).status_code == 303

    def call(self, method: str, path: str, **options: object) -> requests.Response:
        """Send a request."""
        address = self.address + path
        return self.session.request(method, address, timeout=60, allow_redirects=False, **options)  # type: ignore[arg-type]

    def csrf(self, path: str) -> str:
        """Return the token of a form."""
        match = re.search(r'name="csrf" value="([^"]+)"', self.call("GET", path).text)
        assert match
        return match[1]

    def type_everywhere(self, words: str, studies: Sequence[str]) -> Iterator[requests.Response]:
        """Yield the answers of pages, forms and addresses that have the words."""
        token = self.csrf("/console/password")
        for path, field in _FORMS.items():
            yield self.call("POST", path, data={"csrf": token, field: words})
        yield self.call("POST", f"/console/persons/{quote(words)}/remove", data={"csrf": token})
        for page in _PAGES:
            fields = dict.fromkeys(
                ("study", "route", "state", "since", "search", "person", "about", "next", "q"), words
            )
            yield self.call("GET", f"/console/{page}", params=fields)
            yield self.call("GET", f"/console/{page}/{quote(words)}")
        for study in studies:
            page = self.call("GET", f"/console/studies/{study}?described=1")
            yield page
            links = sorted(set(_LINK.findall(page.text)))
            yield from (self.call("GET", link.replace("&amp;", "&")) for link in links)

    def upload_everywhere(self, name: str, content: bytes) -> Iterator[requests.Response]:
        """Yield the answers of uploads that are taken, are refused, and are discarded."""
        token = self.csrf("/console/password")
        trial = f"/console/trials/{secrets.token_hex(16)}"
        for path, field in ((trial, token), (f"{trial[:-1]}z", token), (f"{trial[:-2]}00", "guess")):
            yield self.call("POST", path, files=[("csrf", (None, field)), ("files", (name, content))])
        yield self.call("POST", f"{trial}/discard", data={"csrf": token})
        for path in ("/console/routes/test", "/console/routes/change"):
            yield self.call("POST", path, files=[("csrf", (None, token)), ("files", (name, content))])
        text = f'[[route]]\nname = "{name}"\nhandler = "{name}"\nmodality = ["{name}"]'
        yield self.call("POST", "/console/routes/change", files=[("csrf", (None, token)), ("text", (None, text))])
