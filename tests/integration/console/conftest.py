"""The console on a real socket, over a real database, with a person of each role."""

from collections.abc import Iterator

import pytest
from support import installed

installed("fastapi", "uvicorn", "requests", "jinja2")

import requests  # noqa: E402
from fastapi import Request  # noqa: E402
from support.web_bench import Bench  # noqa: E402

from ainode.node.audit.messages import Message  # noqa: E402
from ainode.node.console.entry.access import Role, Visit  # noqa: E402

CSRF = "the token of the visit"


class Browser:
    """Somebody with a role who looks at pages; without a role, nobody is logged in."""

    def __init__(self, bench: Bench, role: Role | None) -> None:
        self.bench = bench
        self.session = requests.Session()
        # The node may end a kept connection at any moment, and a browser asks again by itself.
        self.session.headers["Connection"] = "close"
        if role:
            self.session.headers["X-Role"] = role.name

    def get(self, path: str, **options: object) -> requests.Response:
        return self._call("GET", path, **options)

    def post(self, path: str, fields: dict[str, str] | None = None, **options: object) -> requests.Response:
        """Send a form with the token of the visit."""
        return self._call("POST", path, data={"csrf": CSRF, **(fields or {})}, **options)

    def _call(self, method: str, path: str, **options: object) -> requests.Response:
        address = f"http://127.0.0.1:{self.bench.settings.web.port}{path}"
        return self.session.request(method, address, timeout=60, allow_redirects=False, **options)  # type: ignore[arg-type]


async def visit_of(request: Request) -> Visit | None:
    name = request.headers.get("x-role", "")
    person = request.headers.get("x-person", f"the {name.lower()}")
    address = request.client.host if request.client else ""
    return Visit(person, Role[name], CSRF, address=address) if name else None


async def is_open(_: Visit) -> bool:
    return True


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    """What the audit trail gets."""
    return []


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, messages: list[Message]) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("console"), record=messages.append)
    made.pages.state.visit_of = visit_of
    made.pages.state.is_open = is_open
    yield made
    made.web.stop()
    made.parts.stop()
    made.engine.dispose()


@pytest.fixture
def nobody(bench: Bench) -> Browser:
    return Browser(bench, None)


@pytest.fixture
def viewer(bench: Bench) -> Browser:
    return Browser(bench, Role.VIEWER)


@pytest.fixture
def reader(bench: Bench) -> Browser:
    return Browser(bench, Role.READER)


@pytest.fixture
def operator(bench: Bench) -> Browser:
    return Browser(bench, Role.OPERATOR)


@pytest.fixture
def administrator(bench: Bench) -> Browser:
    return Browser(bench, Role.ADMINISTRATOR)
