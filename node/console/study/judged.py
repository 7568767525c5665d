"""Who judged an answer, and how, as events in the course of a study."""

from collections.abc import Iterator

from ainode.node.console.judgements.judging import OPINIONS, Panel
from ainode.node.console.study.events import Event
from ainode.node.keeping.judgements import KeptJudgement


def judged_events(panel: Panel) -> Iterator[Event]:
    """Yield the judgements of an answer."""
    for subject in panel.subjects:
        for entry in subject.judgements:
            opinion, kind = OPINIONS[entry.judgement.opinion]
            title = f"Judged by {entry.judgement.person}: {opinion}"
            yield Event(entry.judged_at, title, "; ".join(_words(entry, panel)), None, kind, entry.route)


def _words(entry: KeptJudgement, panel: Panel) -> Iterator[str]:
    """Yield what was judged, what holds instead, and why; no comment, which stands beside the answer."""
    judgement, correction = entry.judgement, entry.judgement.correction
    yield entry.statement if judgement.finding else f"whole result: {entry.statement}"
    if correction.presence:
        yield f"{correction.presence} instead"
    if correction.value is not None:
        yield f"{correction.measurement} {correction.value:g} instead"
    if correction.label:
        yield f"{correction.label} instead"
    if judgement.reason:
        yield panel.reason(judgement.reason).lower()
    if entry.is_replaced:
        yield "replaced by a later judgement"
    if entry.addendum_error:
        yield f"no addendum: {entry.addendum_error}"
