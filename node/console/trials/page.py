"""Try it: files that a person drops are read, shown as a study is shown, and kept nowhere unless the person asks."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from ainode.node.console.entry import access
from ainode.node.console.entry.access import Operator, Reader, Role, Visit
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts
from ainode.node.console.trials.answers import answers, images, series_names
from ainode.node.console.trials.keeping import keep, prospects
from ainode.node.console.trials.owners import owner
from ainode.node.errors import ReceiveError
from ainode.node.offline.trial_question import SLOTS, Stage, TrialOptions, trial_options
from ainode.node.offline.trials import Trial, TrialRefused, TrialState
from ainode.node.reading import described, registry

# A second apart.
_MOST_TRIES: Final = 30
_AXES: Final = ("x", "y", "z")
_INDICES: Final = ("i", "j", "k")


def router(parts: Parts) -> APIRouter:
    """Return the routes of the pages."""
    routes, pages = APIRouter(), TrialPages(parts)
    routes.add_api_route("/trials", pages.start)
    routes.add_api_route("/trials/example", pages.example, methods=["POST"])
    routes.add_api_route("/trials/{identifier}", pages.receive, methods=["POST"])
    routes.add_api_route("/trials/{identifier}", pages.show)
    routes.add_api_route("/trials/{identifier}/progress", pages.progress)
    for name, action in (("read", pages.read), ("discard", pages.discard), ("keep", pages.keep)):
        routes.add_api_route(f"/trials/{{identifier}}/{name}", action, methods=["POST"])
    return routes


def trial_of(parts: Parts, request: Request, visit: Visit) -> Trial:
    """Return the trial of an address.

    Raises: HTTPException 404 if the person has no such trial.
    """
    try:
        return parts.web.trials.of(owner(visit), request.path_params["identifier"])
    except LookupError as error:
        raise HTTPException(404, str(error)) from error


class TrialPages:
    """The page with the form, and the page of a trial."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._trials, self._uploads = parts, parts.web.trials, parts.web.uploads
        settings = parts.settings
        of_routes = (route.handler for route in settings.routes)
        self._models = tuple(sorted({*registry.names(), *described.names(settings.models), *of_routes}))

    def start(self, request: Request, visit: Reader) -> Response:
        """Return the form."""
        web = self._parts.settings.web
        return render(
            request,
            "trials.html",
            identifier=self._trials.new_identifier(),
            models=self._models,
            examples=registry.names(),
            trials=self._trials.all_of(owner(visit)),
            limit=web.max_upload_bytes,
            file_limit=web.max_upload_files,
        )

    def example(self, visit: Reader, model: Annotated[str, Form()] = "") -> Response:
        """Have the synthetic study of a model read."""
        if model not in registry.names():
            raise HTTPException(422, "there is no such model; choose a model of the page")
        trial = self._opened(visit)
        self._trials.read(trial, TrialOptions(handler=model, is_example=True))
        return _to(trial)

    async def receive(
        self, request: Request, identifier: str, visit: Annotated[Visit, Depends(access.with_files(Role.READER))]
    ) -> Response:
        """Take the files of the form, and have the files read."""
        trial = self._opened(visit, identifier)
        try:
            form = await self._uploads.receive(
                request,
                trial.folder,
                caller=visit.person,
                on_bytes=lambda received, length: trial.set(received_bytes=received, length_bytes=length),
            )
            access.refuse_forgery(visit, request.headers.get("x-csrf", "") or form.values.get("csrf", ""))
            if not form.files:
                raise ValueError("nothing was uploaded; choose a file")  # noqa: TRY301 - as every other fault of the form
            trial.names = {str(file.path.relative_to(trial.folder)): file.name for file in form.all_files}
            self._trials.read(trial, self._options(form.values))
        except AnyHTTPException as error:
            self._trials.fail(trial, str(error.detail))
            raise
        except (ValueError, TrialRefused) as error:
            self._trials.fail(trial, str(error))
            raise HTTPException(422, str(error)) from error
        finally:
            if trial.state.stage is Stage.UPLOADING:  # the upload broke off
                self._trials.discard(trial)
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"HX-Redirect": _address(trial)})
        return _to(trial)

    def show(self, request: Request, visit: Reader) -> Response:
        """Return the page of a trial."""
        trial = trial_of(self._parts, request, visit)
        content = trial.content()
        outlook, may_keep = prospects(self._parts, content), visit.may("operator")
        return render(
            request,
            "trial.html",
            trial=trial,
            state=trial.state,
            answers=answers(trial, content),
            uid_names=series_names(content),
            images=images(content, _address(trial)),
            prospects=outlook if may_keep else [],
            is_unnamed=any(prospect.wants_body_part for prospect in outlook),
            wants_body_part=any(entry.get("wants_body_part") for entry in content["readings"]),
            unread=[(trial.shown(entry["path"]), trial.shown(entry["reason"])) for entry in content["unread"]],
            unread_count=content["unread_count"],
            models=self._models,
            options=trial.options,
            next=f"{_address(trial)}/progress?page=trial",
        )

    def progress(self, request: Request, visit: Reader, identifier: str, page: str = "", again: int = 0) -> Response:
        """Return how far a trial is; at its end, the whole page of the trial is shown again.

        The page with the form asks once the form was sent, be it before the first byte of the form arrived.
        """
        state = TrialState()
        with suppress(LookupError):
            state = self._trials.of(owner(visit), identifier).state
            again = 0
        address = f"/console/trials/{quote(identifier, safe='')}"
        if page and state.stage.is_final:
            return Response(status_code=204, headers={"HX-Redirect": address})
        if again > _MOST_TRIES:
            state = TrialState(Stage.FAILED, error="The upload did not begin; load the page again.")
        following = f"{address}/progress?page={'trial' if page else ''}&again={again + 1}"
        return render(request, "_trial_progress.html", state=state, next="" if state.stage.is_final else following)

    async def read(self, request: Request, visit: Reader) -> Response:
        """Have the files of a trial read again, with other positions or by another model."""
        trial = trial_of(self._parts, request, visit)
        fields = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        try:
            self._trials.read(trial, self._options(fields, is_example=trial.options.is_example))
        except (ValueError, TrialRefused) as error:
            raise HTTPException(422, str(error)) from error
        return _to(trial)

    def discard(self, request: Request, visit: Reader) -> Response:
        """Remove the files and the answers now."""
        self._trials.discard(trial_of(self._parts, request, visit))
        return RedirectResponse("/console/trials", 303)

    def keep(self, request: Request, visit: Operator) -> Response:
        """Take the studies of a trial into the node as if they were received: routed, read, delivered."""
        trial = trial_of(self._parts, request, visit)
        if not trial.kept_studies:
            if not trial.content()["studies"]:
                raise HTTPException(
                    422,
                    "there is nothing to keep: the files are not read yet, or cannot be; see the page of the trial",
                )
            try:
                with self._trials.keeping(trial):
                    self._trials.note_kept(trial, keep(self._parts, trial, visit.address))
            except TrialRefused as error:
                raise HTTPException(422, str(error)) from error
            except ReceiveError as error:
                raise HTTPException(422, f"a file is not kept: {error}") from error
        return RedirectResponse(f"/console/studies/{trial.kept_studies[-1]}", 303)

    def _opened(self, visit: Visit, identifier: str = "") -> Trial:
        try:
            return self._trials.open(owner(visit), identifier)
        except TrialRefused as error:
            raise HTTPException(429, str(error)) from error

    def _options(self, values: Mapping[str, str], *, is_example: bool = False) -> TrialOptions:
        """Return the options of a form.

        Raises: ValueError.
        """
        model = values.get("model", "")
        if model and model not in self._models:
            raise ValueError("there is no such model; choose a model of the page")
        places = [_point(values, number) for number in range(1, len(SLOTS) + 1)]
        kinds = {kind for text, kind in places if text}
        if len(kinds) > 1:
            raise ValueError("give every position in mm, or every position as an index")
        return trial_options(
            model,
            [text for text, _ in places],
            point_is=kinds.pop() if kinds else "mm",
            body_part=values.get("body_part", ""),
            is_look=bool(values.get("look")),
            is_example=is_example,
        )


def _point(values: Mapping[str, str], number: int) -> tuple[str, str]:
    """Return the position of a date as text, and whether it is `mm` or `index`; '' where none is given.

    Raises: ValueError if a position is not whole.
    """
    for kind, names in (("mm", _AXES), ("index", _INDICES)):
        texts = [values.get(f"{name}_{number}", "").strip().replace(",", ".") for name in names]
        if all(texts):
            return ",".join(texts), kind
        if any(texts):
            raise ValueError(f"the position of date {number} has not all of its three numbers")
    return "", ""


def _address(trial: Trial) -> str:
    return f"/console/trials/{trial.identifier}"


def _to(trial: Trial) -> Response:
    return RedirectResponse(_address(trial), 303)
