"""What an operator does to the readings of one study, from the page of the study; `worklist_actions.py` does it."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Response
from fastapi.responses import RedirectResponse

from ainode.node.console.entry.access import Operator
from ainode.node.console.memos import Memos
from ainode.node.console.parts import Parts, StudyUid
from ainode.node.console.worklist.actions import CHECKED, REASONS, Actions, Chosen, sentence
from ainode.node.domain import UID
from ainode.node.keeping.worklist import Kind


def add_actions(routes: APIRouter, parts: Parts, memos: Memos) -> None:
    """Add the address of the actions; the page of the study then shows what was done."""
    actions = Actions(parts)

    def act(
        study: StudyUid,
        action: str,
        visit: Operator,
        job: Annotated[str, Form(pattern=r"^([0-9a-f]{32})?$")] = "",
        reason: Annotated[str, Form()] = "",
    ) -> Response:
        """Do an action to a job of the study, or to the study where no job is named."""
        if action not in actions.by_name:
            raise HTTPException(404, "the page of a study has no such action; load the page again")
        if action == "cancel" and reason not in REASONS:
            raise HTTPException(422, "a reading is cancelled with a reason; choose one of the list")
        if job and job not in {row.id for row in parts.ledger.jobs(study=UID(study))}:
            raise HTTPException(404, f"study {study} has no reading {job}; see the page of the study")
        chosen = Chosen(Kind.JOB, job) if job else Chosen(Kind.UNMATCHED, study)
        effect = actions.apply(action, [chosen], visit, reason)
        # The page says by itself that the study is checked, and what came of it.
        memo = "" if effect == sentence(CHECKED) else f"?memo={memos.keep(effect)}"
        return RedirectResponse(f"/console/studies/{study}{memo}", 303)

    routes.add_api_route("/studies/{study}/actions/{action}", act, methods=["POST"])
