"""Why a study was routed as it was, as the catalog keeps it and as a person reads it; pure.

A value of a header may be a person's words: a name in a description, a comment. The catalog keeps what is a code, a
number or a UID by its attribute and by its looks; the other values are read from the files when somebody asks.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from ainode.node.deciding.stored_study import ANY_ROUTE
from ainode.node.domain import UID
from ainode.node.keeping.unread import Mismatch, UnreadReason
from ainode.node.routes import NOT_KEPT, NOT_SHOWN, Check, Route, RouteDecision, remedy

# PS3.5 6.2; a UID that differs from the index is told with the instance that holds it.
_CODE, _NUMBER = r"[A-Z0-9_ ]{1,16}", r"[-+0-9.eE]{1,16}"
_UID: Final = r"[0-9.]{1,64}(?: in the file of instance [0-9.]{1,64})?"
_CODED: Final = {"CS": _CODE, "UI": _UID} | dict.fromkeys("DS FD FL IS SL SS UL US".split(), _NUMBER)  # noqa: SIM905
# The words of a body part are the node's own vocabulary.
_BODY_PART: Final = r"unknown: [^:]*|[A-Z ]+ \([A-Za-z]+: [^)]*\)"
_NO_VALUE: Final = f"absent|{NOT_SHOWN}|…"


def storable(decision: RouteDecision) -> RouteDecision:
    """Return the decision without the values that may be a person's words."""
    return _replaced(decision, lambda check: check if _is_storable(check) else replace(check, found=NOT_KEPT))


def _is_storable(check: Check) -> bool:
    if tag_for_keyword(check.attribute) is None:  # the node counted something, or says why it cannot read a header
        return True
    if check.attribute == "BodyPartExamined" and re.fullmatch(_BODY_PART, check.found):
        return True
    value = rf"(?:{_NO_VALUE}|{_CODED.get(dictionary_VR(check.attribute), '(?!)')})"
    return re.fullmatch(rf"{value}(?:(?:\\|, | x ){value})*", check.found) is not None


def completed(stored: RouteDecision, decisions: Iterable[RouteDecision]) -> RouteDecision:
    """Return a stored decision with the values that the same checks find in the files now."""
    values = {
        (decision.route, decision.series_instance_uid, check.attribute, check.expected): check.found
        for decision in decisions
        for check in decision.checks
    }

    def with_value(check: Check) -> Check:
        key = (stored.route, stored.series_instance_uid, check.attribute, check.expected)
        return replace(check, found=values.get(key, NOT_KEPT)) if check.found == NOT_KEPT else check

    return _replaced(stored, with_value)


def changes(rows: Iterable[Mapping[str, Any]], decisions: Iterable[RouteDecision]) -> tuple[RouteDecision, ...]:
    """Return those decisions of now that are of a route without a stored decision, or take what it did not, or reverse.

    `rows` are decisions as the catalog keeps them, `decisions` those of the routes of now on the same files.
    """
    stored: dict[tuple[str, str], bool] = {}
    for row in rows:
        stored[row["route"], row["series_instance_uid"]] = all(check["passed"] for check in row["checks"])
    return tuple(
        decision
        for decision in decisions
        if stored.get((decision.route, decision.series_instance_uid)) != decision.matched
    )


def later_routes(rows: Iterable[Mapping[str, Any]], routes: Iterable[Route]) -> tuple[str, ...]:
    """Return the routes that a study was not held against, as they were added later; `rows` as the catalog has them."""
    names = {row["route"] for row in rows}
    return tuple(route.name for route in routes if route.name not in names)


def remedies(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what would make routes take a study, each remedy with its routes.

    `rows` are decisions as the catalog keeps them. A route for which several conditions fail has no remedy.
    """
    routes: dict[str, list[str]] = {}
    for row in rows:
        failures = [check for check in row["checks"] if not check["passed"]]
        if len(failures) == 1 and (text := remedy(*(failures[0][name] for name in ("attribute", "expected", "found")))):
            routes.setdefault(text, []).append(row["route"])
    return {text: list(dict.fromkeys(names)) for text, names in routes.items()}


def nearest_mismatch(decisions: Iterable[RouteDecision]) -> Mismatch | None:
    """Return the first failed condition of the decision that came farthest; None if a route matched.

    Of decisions that came equally far, the decision with the fewest failed conditions counts, then the first.
    """
    decided = tuple(decisions)
    if not decided:
        return Mismatch(UnreadReason.NO_ROUTE, "", UID(""), "routes.toml", "a route", "none")
    if any(decision.matched for decision in decided):
        return None
    nearest = min(decided, key=lambda decision: (-_first_failure(decision), _failures(decision)))
    check = storable(nearest).checks[_first_failure(nearest)]
    return Mismatch(
        UnreadReason.NO_ROUTE,
        nearest.route,
        nearest.series_instance_uid,
        check.attribute,
        check.expected,
        check.found,
    )


def _first_failure(decision: RouteDecision) -> int:
    return next(number for number, check in enumerate(decision.checks) if not check.passed)


def _failures(decision: RouteDecision) -> int:
    return sum(not check.passed for check in decision.checks)


def _replaced(decision: RouteDecision, change: Callable[[Check], Check]) -> RouteDecision:
    return replace(decision, checks=tuple(map(change, decision.checks)))


def of_rejection(explanation: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return what an explanation says of rejected images; what routes say of the note that is left helps nobody."""
    return [decision for decision in explanation if decision["route"] == ANY_ROUTE]
