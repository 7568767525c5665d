"""How a page is made: the templates, what every page shows, and how times and durations are written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ainode.node import __version__
from ainode.node.console.days import day_of, zone_of
from ainode.node.console.entry.access import Role, Visit
from ainode.node.console.identifiers import NO_NAMES, named, uids_of
from ainode.node.console.states import state_words
from ainode.node.deciding.explanations import remedies
from ainode.node.deciding.reasons import kept_deciding_words
from ainode.node.domain import counted, probability_text, score_text
from ainode.node.routes import NOT_KEPT, OF_EVERY_IMAGE, difference
from ainode.node.settings import Settings

STATIC: Final = Path(__file__).with_name("static")
# Everything comes from the node itself, and no script or style stands in a page.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
THEMES: Final = ("light", "dark")
_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Destination:
    """An entry of the navigation."""

    title: str
    path: str
    role: Role = Role.VIEWER


NAVIGATION: Final = (
    Destination("Worklist", "/console/"),
    Destination("Not read", "/console/unread"),
    Destination("Routes", "/console/routes"),
    Destination("Models", "/console/models"),
    Destination("Judgements", "/console/judgements", Role.READER),
    Destination("Try it", "/console/trials", Role.READER),
    Destination("System", "/console/system"),
    Destination("Persons", "/console/persons", Role.ADMINISTRATOR),
)


class Pages:
    """Renders templates."""

    def __init__(self, settings: Settings) -> None:
        self._zone = zone_of(settings)
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "time": self.time,
            "duration": duration,
            "probability": probability_text,
            "score": score_text,
            "bytes": size,
            "day": day_of,
            "counted": counted,
            "sentence": sentence,
            "state": state_words,
            "named": named,
            "uids": uids_of,
        }
        self._environment.globals |= {
            "version": __version__,
            "node_name": settings.node.name,
            "static": static_address,
            "difference": difference,
            "remedies": remedies,
            "not_kept": NOT_KEPT,
            "of_every_image": OF_EVERY_IMAGE,
            "decided_by": kept_deciding_words,
            "no_names": NO_NAMES,
        }

    def render(self, request: Request, template: str, values: Mapping[str, object], status: int) -> HTMLResponse:
        """Return a page; a template finds the visit, the navigation and the theme beside the values."""
        visit: Visit | None = getattr(request.state, "visit", None)
        theme = request.cookies.get("theme", "")
        common = {
            "request": request,
            "visit": visit,
            "navigation": [entry for entry in NAVIGATION if visit and visit.role >= entry.role],
            "theme": theme if theme in THEMES else "",
        }
        content = self._environment.get_template(template).render({**common, **values})
        return HTMLResponse(content, status, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})

    def part(self, template: str, values: Mapping[str, object]) -> str:
        """Return a part of a page that is the same for everybody who may see the part."""
        return self._environment.get_template(template).render(values)

    def time(self, moment: datetime | None) -> Markup:
        """Return a time in the zone of the node, which a browser can read too; a dash for None."""
        if moment is None:
            return Markup("-")
        local = moment.astimezone(self._zone)
        return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M:%S}</time>').format(
            moment.astimezone(UTC).isoformat(timespec="seconds"), local
        )


def render(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """Return a page of a template and its values."""
    pages: Pages = request.app.state.pages
    return pages.render(request, template, values, status)


def static_address(name: str) -> str:
    """Return the address of a static file, which changes with its content so that browsers may keep the file."""
    return f"/console/static/{name}?{_digest(name)}"


def _digest(name: str) -> str:
    return sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def duration(seconds: float | None) -> str:
    """Return a duration in words, such as `4.2 s`, `3 min 10 s` or `2 d 4 h`; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, length_s, smaller, smaller_s in (("d", _DAY_S, "h", _HOUR_S), ("h", _HOUR_S, "min", _MINUTE_S)):
        if whole >= length_s:
            return f"{whole // length_s} {unit} {whole % length_s // smaller_s} {smaller}"
    return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"


def sentence(text: str) -> str:
    """Return the words of an error as a sentence: errors are written for a place behind a colon, as commands print."""
    words = text.strip()
    first = words.split(maxsplit=1)[0].rstrip(":") if words else ""
    begins = words[:1].upper() + words[1:] if first.isalpha() else words
    return begins if not words or words[-1] in ".!?:" else f"{begins}."


def size(count: float) -> str:
    """Return a number of bytes in words, such as `3.1 MB`; a megabyte has a million bytes."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:  # noqa: PLR2004 - the prefixes of the International System of Units
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.1f} GB"
