"""What the slice viewer loads of a trial: its images, and what was found in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request

from ainode.node.console.entry.access import Role, Visit
from ainode.node.console.parts import Parts
from ainode.node.console.study.viewer import add_viewer
from ainode.node.console.trials.answers import documents, image_paths
from ainode.node.console.trials.page import trial_of
from ainode.node.domain import DocumentKind
from ainode.node.keeping.saliency import FILE_NAME
from ainode.node.offline.trials import Trial


@dataclass(frozen=True, slots=True)
class TrialSeries:
    """A series of a trial."""

    trial: Trial
    series: str

    def files(self) -> Sequence[Path]:
        """Return the files of the series."""
        return list(image_paths(self.trial, self.series).values())

    def file(self, sop_instance_uid: str) -> Path | None:
        """Return the file of an instance."""
        return image_paths(self.trial, self.series).get(sop_instance_uid)

    def reports(self) -> Sequence[Path]:
        """Return the structured reports of the readings."""
        return [
            document.path
            for entry in self.trial.content()["readings"]
            for document in documents(self.trial, entry)
            if document.kind is DocumentKind.STRUCTURED_REPORT
        ]

    def saliency(self) -> Sequence[Path]:
        """Return the files of saliency of the readings; a file may be absent."""
        return [self.trial.folder / entry["folder"] / FILE_NAME for entry in self.trial.content()["readings"]]


def router(parts: Parts) -> APIRouter:
    """Return the addresses of the viewer of a trial."""

    def source(request: Request) -> TrialSeries:
        visit: Visit = request.state.visit
        return TrialSeries(trial_of(parts, request, visit), request.path_params["series"])

    routes = APIRouter()
    add_viewer(routes, "/trials/{identifier}/series/{series}", source, parts.rendering, Role.READER)
    return routes
