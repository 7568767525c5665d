"""The pages of the console as an application of its own, which the HTTP application of the node mounts."""

import logging
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote, urlencode, urlsplit

from fastapi import FastAPI, Form, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from ainode.node.console import words
from ainode.node.console.entry.access import LoginNeeded
from ainode.node.console.entry.doorkeeper import Doorkeeper, unavailable
from ainode.node.console.entry.looks import Looks
from ainode.node.console.entry.visits import Visits
from ainode.node.console.field_errors import field_sentence
from ainode.node.console.judgements import page as judgements
from ainode.node.console.models import answer_search, compare, live
from ainode.node.console.models import page as models
from ainode.node.console.pages import STATIC, THEMES, Pages, render, sentence
from ainode.node.console.parts import Parts
from ainode.node.console.persons import login
from ainode.node.console.persons.page import Persons
from ainode.node.console.routing import explanations, routes, unread
from ainode.node.console.study import files as study_files
from ainode.node.console.study import page as study
from ainode.node.console.study import rereading as study_rereading
from ainode.node.console.study import viewer
from ainode.node.console.system import letters, reloading
from ainode.node.console.system import page as system
from ainode.node.console.system import trials as system_trials
from ainode.node.console.trials import files as trial_files
from ainode.node.console.trials import page as trials
from ainode.node.console.trials import viewer as trial_viewer
from ainode.node.console.trials.owners import departures
from ainode.node.console.worklist import page as worklist
from ainode.node.disk import is_full
from ainode.node.errors import Busy, DatabaseUnavailable
from ainode.node.keeping.people import People
from ainode.node.web.uploads import DISK_FULL

log = logging.getLogger(__name__)
_PAGES: Final = (
    worklist,
    unread,
    explanations,
    routes,
    study,
    study_files,
    study_rereading,
    viewer,
    models,
    live,
    compare,
    answer_search,
    judgements,
    trials,
    trial_files,
    trial_viewer,
    system,
    letters,
    reloading,
    system_trials,
    words,
)
# The address of a file changes with its content.
_HEADINGS: Final = {
    400: "The request does not fit",
    403: "Not allowed",
    404: "There is no such page or study",
    409: "Something else was quicker",
    413: "Too large",
    422: "This was not done",
    429: "Not now",
    503: "Not now",
    507: "The disk is full",
}
"""what the headings of pages call a status; for a status that is missing here, HTTP's own words"""
_A_YEAR_S: Final = 31_536_000
_STATIC_FILES: Final = {str(file.relative_to(STATIC)): file for file in STATIC.rglob("*") if file.is_file()}
_A_YEAR: Final = {"Cache-Control": f"public, max-age={_A_YEAR_S}, immutable"}


def console(parts: Parts) -> FastAPI:
    """Return the application of the console."""
    app = FastAPI(title="ainode console", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.pages = Pages(parts.settings)
    people = People(parts.engine)
    parts.web.trials.end_with_owners(departures(people))
    visits = Visits(parts.settings, people, parts.web.record)
    app.state.visit_of, app.state.is_open, app.state.note_action = visits.of, visits.is_open, visits.note_action
    looks = Looks(parts.web.record, has_names=parts.settings.console.patient != "hidden")
    app.add_middleware(Doorkeeper, to_login=_to_login, refused=_refused, looks=looks)
    app.add_exception_handler(LoginNeeded, _to_login)
    app.add_exception_handler(AnyHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.add_exception_handler(Busy, _busy)
    app.add_exception_handler(OSError, _disk_failed)
    app.add_exception_handler(Exception, _refused)
    for page in _PAGES:
        app.include_router(page.router(parts))
    desk = login.Desk(visits, parts.web.complaints)
    app.include_router(login.router(desk))
    app.include_router(Persons(desk).router())
    app.add_api_route("/static/{path:path}", _static)
    app.add_api_route("/theme", _theme, methods=["POST"])
    return app


async def _static(path: str) -> Response:
    """Return a file that belongs to the pages: what somebody asks for is looked up, and never becomes a path."""
    file = _STATIC_FILES.get(path)
    if file is None:
        raise HTTPException(404, "the console has no such file; load the page again")
    return FileResponse(file, headers=_A_YEAR)


async def _theme(theme: Annotated[str, Form()] = "", address: Annotated[str, Form()] = "") -> Response:
    """Keep the colors that a person prefers, and show the page again."""
    answer = RedirectResponse(address if address.startswith("/console/") else "/console/", 303)
    answer.set_cookie("theme", theme if theme in THEMES else "", max_age=_A_YEAR_S, path="/console", samesite="lax")
    return answer


def _to_login(request: Request, error: Exception) -> Response:
    """Send a browser to the login page; a part of a page, asked for by htmx, makes the whole page go there."""
    address = f"/console/login?next={quote(getattr(error, 'address', ''), safe='')}"
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": address})
    return RedirectResponse(address, 303)


def _refused(request: Request, error: Exception) -> Response:
    """Return the page of an error, which says what a person can do."""
    if not isinstance(error, AnyHTTPException):
        return _failed(request, error)
    status = HTTPStatus(error.status_code)
    detail = "" if error.detail == status.phrase else sentence(str(error.detail))
    page = _problem(request, status, _HEADINGS.get(status, status.phrase), detail)
    page.headers.update(error.headers or {})
    return page


def _failed(request: Request, error: Exception) -> Response:
    """Log which page failed where in the code, and return a page that says when, and where the line stands."""
    # The address of the route, not of the request: a request may carry what a person typed.
    address = f"/console{getattr(request.scope.get('route'), 'path', '')}"
    log.error("a page failed", exc_info=error, extra={"action": "page_failed", "path": address})
    return _problem(request, 500, "The page failed", "", failed_at=datetime.now(UTC))


def _problem(
    request: Request, status: int, phrase: str, detail: str, *, failed_at: datetime | None = None, form: str = ""
) -> Response:
    """Return the page of an error, which leads to the page before or to the `form`.

    htmx gets a paragraph, which it shows at the top of the page that is open.
    """
    is_part = "hx-request" in request.headers
    template, values = "_problem.html" if is_part else "error.html", {"phrase": phrase, "detail": detail}
    page = render(request, template, status=status, **values, failed_at=failed_at, back=_page_before(request) or form)
    if is_part:
        page.headers.update({"HX-Retarget": "#problem", "HX-Reswap": "innerHTML show:top"})
    return page


def _page_before(request: Request) -> str:
    """Return the address of the page of the console whose form was sent, '' where the browser does not tell it."""
    try:
        page = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return ""
    is_ours = page.netloc == request.headers.get("host") and page.path.startswith("/console/")
    return page._replace(scheme="", netloc="").geturl() if is_ours and request.method == "POST" else ""


def _unavailable(request: Request, error: Exception) -> Response:
    """Return the page of a database that does not answer."""
    return _refused(request, unavailable(error))


def _busy(request: Request, error: Exception) -> Response:
    """Return the page of work that too many people have asked for."""
    return _refused(request, HTTPException(503, str(error), {"Retry-After": "60"}))


def _disk_failed(request: Request, error: Exception) -> Response:
    """Return the page of a full disk, or of a page that failed."""
    return _refused(request, HTTPException(507, DISK_FULL) if is_full(error) else error)


def _invalid(request: Request, error: Exception) -> Response:
    """Return the page of a form or address that does not fit, without repeating its values."""
    problems = error.errors() if isinstance(error, RequestValidationError) else ()
    texts = (sentence(field_sentence(problem)) for problem in problems)
    # A form that asks for a list has the address of its page, less what does not fit.
    is_of_question = all(problem["loc"][0] == "query" for problem in problems)
    wrong = {str(problem["loc"][-1]) for problem in problems}
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name not in wrong])
    address = f"{request.url.path}?{query}".removesuffix("?")
    form = address if request.method == "GET" and is_of_question else ""
    return _problem(request, 422, "The address or form does not fit", " ".join(texts), form=form)
