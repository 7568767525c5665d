"""What a notification says: pure. No attribute of a patient is in it unless the subscription includes it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from ainode.node.domain import NO_UID, UID, Occasion, Reading, Result, is_urgent
from ainode.node.keeping.job_events import JobEvent, Subject
from ainode.node.keeping.notices import Notice, notice_id
from ainode.node.keeping.records import Job
from ainode.node.settings import Settings, Subscription

Attributes = Callable[[Job, Sequence[str]], Mapping[str, str]]
"""values of a job's study by keyword"""
_CORRECTION: Final = "correction of an earlier notification: "
_WITHDRAWAL: Final = "withdrawn, an earlier notification does not hold: "


def answer_notices(
    settings: Settings, job: Job, reading: Reading, attributes: Attributes, *, at: datetime
) -> tuple[Notice, ...]:
    """Return a notice for each subscription to the answer of a job; none of an answer without a verdict."""
    body = _answer_values(settings, job, reading)
    if body is None:
        return ()
    occasion = Occasion(body["verdict"])
    # An answer is news once for each job, whichever of its verdicts was the strongest.
    return tuple(
        _News(settings, each, occasion, at).of_job(job, {**body, **_patient(each, job, attributes)}, "answer")
        for each in _subscribed(settings, occasion, job.route)
        if (body["probability"] or 0.0) >= each.min_probability
    )


def correction_notices(
    settings: Settings,
    job: Job,
    earlier_notices: Sequence[Notice],
    reading: Reading | None,
    *,
    reason: str,
    at: datetime,
) -> tuple[Notice, ...]:
    """Return a notice for each subscription that has an earlier notice of another answer, whatever it is about.

    Without a reading, or with one without a verdict, the earlier notices are withdrawn for the `reason`.
    """
    answer = _answer_values(settings, job, reading) if reading else None
    values = answer or {"verdict": None, "words": reason, "probability": None, "threshold": None, "urgent": False}
    occasion = Occasion(values["verdict"]) if answer else Occasion.FAILURE
    words = f"{_CORRECTION if answer else _WITHDRAWAL}{values['words']}"
    subscriptions = {each.name: each for each in settings.subscriptions}
    notices = []
    for earlier in earlier_notices:
        body, subscription = json.loads(earlier.body), subscriptions.get(earlier.subscription)
        if subscription and not _says(body, values):
            patient = {"patient": body["patient"]} if "patient" in body else {}
            changed = {**values, "words": words, "corrects": earlier.id, **patient}
            notice = _News(settings, subscription, occasion, at).of_job(job, changed, "answer", earlier.id)
            notices.append(replace(notice, replaces=earlier.id))
    return tuple(notices)


def _answer_values(settings: Settings, job: Job, reading: Reading) -> dict[str, Any] | None:
    """Return what a notice says of an answer; None of one without a verdict."""
    answer = reading.answer
    if not isinstance(answer, Result) or answer.presence is None:
        return None
    verdict = answer.leading[1] if answer.leading else None
    rule = next((route.urgent for route in settings.routes if route.name == job.route), None)
    return {
        "verdict": answer.presence.value,
        "words": "; ".join(answer.statements),
        "probability": verdict.probability if verdict else None,
        "threshold": verdict.threshold if verdict else None,
        "urgent": is_urgent(answer, rule),
    }


def _says(body: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Return whether a notice tells the same answer; a withdrawal tells the same whatever its reason."""
    if values["verdict"] is None:
        return body["verdict"] is None
    is_same = all(body[key] == values[key] for key in ("verdict", "probability", "threshold"))
    return is_same and body["words"].removeprefix(_CORRECTION) == values["words"]


def event_notices(settings: Settings, job: Job, event: JobEvent) -> tuple[Notice, ...]:
    """Return a notice for each subscription to what was given up."""
    is_reading = event.subject is Subject.READING
    occasion = Occasion.FAILURE if is_reading else Occasion.DEAD_LETTER
    body = {
        "words": event.error or "no reason was kept",
        **({} if is_reading else {"destination": event.destination, "documents": event.count}),
        "attempts": event.attempts,
    }
    news = (event.subject.value, event.destination, event.at.isoformat())
    return tuple(
        _News(settings, each, occasion, event.at).of_job(job, body, *news)
        for each in _subscribed(settings, occasion, job.route)
    )


def queue_notice(settings: Settings, subscription: Subscription, queue: str, oldest: datetime, now: datetime) -> Notice:
    """Return the notice that the oldest entry of a queue has waited for too long."""
    minutes = int((now - oldest).total_seconds() // 60)
    words = f"{queue}: the oldest has waited for {minutes} minutes; {subscription.queue_minutes:g} are configured"
    body = {"queue": queue, "state": "waits", "words": words, "minutes": minutes}
    return _News(settings, subscription, Occasion.QUEUE, now).of(queue, body, is_open=True)


def queue_ending(settings: Settings, subscription: Subscription, raised: Notice, now: datetime) -> Notice:
    """Return the notice that what was raised of a queue is over."""
    body = {"queue": raised.subject, "state": "over", "words": f"{raised.subject}: nothing waits for too long any more"}
    return _News(settings, subscription, Occasion.QUEUE, now).of(raised.subject, {**body, "raised": raised.id})


def alert_notices(settings: Settings, kind: str, words: str, at: datetime) -> tuple[Notice, ...]:
    """Return a notice for each subscription to what the node has to say of itself."""
    return tuple(
        _News(settings, each, Occasion.ALERT, at).of(kind, {"kind": kind, "words": words})
        for each in _subscribed(settings, Occasion.ALERT)
    )


def trial_notice(settings: Settings, subscription: Subscription, now: datetime) -> Notice:
    """Return a notice of nothing, by which a person tries a subscription; its occasion is no other notice's."""
    body = {"kind": "test", "words": "a test of this notification; nothing has happened"}
    return _News(settings, subscription, Occasion.TEST, now).of("test", body)


@dataclass(frozen=True, slots=True)
class _News:
    """One thing that one subscription is told, at a moment."""

    settings: Settings
    subscription: Subscription
    occasion: Occasion
    at: datetime

    def of_job(self, job: Job, values: Mapping[str, Any], *news: str) -> Notice:
        """Return the notice about a job."""
        about = {"route": job.route, "study": job.study_instance_uid, "job": job.id}
        if base := self._console():
            about["link"] = f"{base}console/studies/{job.study_instance_uid}"
        identifier = notice_id(self.subscription.name, job.id, *news)
        return self._notice(identifier, job.id, {**about, **values}, study=job.study_instance_uid)

    def of(self, subject: str, values: Mapping[str, Any], *, is_open: bool = False) -> Notice:
        """Return the notice about what is no job."""
        news = (self.occasion.value, subject, self.at.isoformat(), str(values.get("state", "")))
        return self._notice(notice_id(self.subscription.name, *news), subject, values, is_open=is_open)

    def _notice(
        self, identifier: str, subject: str, values: Mapping[str, Any], *, study: UID = NO_UID, is_open: bool = False
    ) -> Notice:
        head = {
            "id": identifier,
            "occasion": self.occasion.value,
            "at": self.at.isoformat(timespec="seconds"),
            "node": self.settings.node.name,
        }
        body = json.dumps({**head, **values}, ensure_ascii=False)
        return Notice(identifier, self.subscription.name, self.occasion, subject, body, self.at, study, is_open)

    def _console(self) -> str:
        """Return the address of the console with a slash at its end, '' where there is none."""
        if self.subscription.link:
            return f"{self.subscription.link.removesuffix('/')}/"
        settings = self.settings
        return settings.web.address if settings.web.enabled and settings.console.enabled else ""


def _subscribed(settings: Settings, occasion: Occasion, route: str = "") -> Iterator[Subscription]:
    for subscription in settings.subscriptions:
        if occasion in subscription.on and (not route or not subscription.routes or route in subscription.routes):
            yield subscription


def _patient(subscription: Subscription, job: Job, attributes: Attributes) -> Mapping[str, Any]:
    return {"patient": dict(attributes(job, subscription.include))} if subscription.include else {}
