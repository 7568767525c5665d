"""The explanation of one study: what each route decided, as the catalog keeps it or as the files say it now."""

from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request, Response

from ainode.node.console.assistant.client import Assistant
from ainode.node.console.entry.access import Role, Viewer
from ainode.node.console.pages import render
from ainode.node.console.parts import Parts, StudyUid
from ainode.node.console.routing.unread import WORDS, sentence
from ainode.node.console.study.series_names import names_of
from ainode.node.deciding.explanations import later_routes, of_rejection
from ainode.node.domain import UID
from ainode.node.errors import CannotRender
from ainode.node.keeping.study_records import StudyRecords
from ainode.node.keeping.unread import UnreadStudies
from ainode.node.routes import NOT_KEPT, OF_EVERY_IMAGE

_READ_S: Final = 120.0


def router(parts: Parts) -> APIRouter:
    """Return the routes of the page."""
    routes, unread, assistant = APIRouter(), UnreadStudies(parts.engine), Assistant(parts.settings)
    records = StudyRecords(parts.engine)

    @routes.get("/studies/{study}/explanation")
    def explanation(
        request: Request,
        study: StudyUid,
        visit: Viewer,
        values: str = "",
    ) -> Response:
        """Return the decisions; values that may be a person's words only for whoever may see a patient in full."""
        rows = unread.of_study(UID(study))
        decisions, problem = parts.catalog.explanation(UID(study)), ""
        if decisions is None and not rows:
            raise HTTPException(
                404,
                f"study {study}: not routed here, and not announced; send the study, or look at the UID",
            )
        may_read_values = parts.settings.console.patient == "full" and visit.role >= Role.READER
        if values and decisions and may_read_values:
            try:
                decisions = assistant.ask("stored", limit_s=_READ_S, study=study, decisions=decisions)
            except CannotRender as error:
                problem = str(error)
        return render(
            request,
            "explanation.html",
            study=study,
            rows=rows,
            words=WORDS,
            sentence=sentence,
            decisions=of_rejection(decisions or ()) if parts.catalog.is_rejected(UID(study)) else decisions,
            is_read=bool(parts.ledger.jobs(study=UID(study))),
            later_routes=later_routes(decisions or (), parts.settings.routes),
            problem=problem,
            has_values_in_files=_has_values_in_files(decisions or ()),
            may_read_values=may_read_values,
            uid_names=names_of(
                (decision["series_instance_uid"] for decision in decisions or ()),
                UID(study),
                records.series(UID(study)),
                parts.catalog,
                has_words=parts.settings.console.patient == "full",
            ),
        )

    return routes


def _has_values_in_files(decisions: Any) -> bool:  # noqa: ANN401 - what the catalog keeps
    checks = (check for decision in decisions for check in decision["checks"])
    return any(
        check["found"] == NOT_KEPT and not (check["passed"] and check["expected"] in OF_EVERY_IMAGE) for check in checks
    )
