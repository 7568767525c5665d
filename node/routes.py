"""The nouns of routing: which series is read by what, and why it was or was not.

`settings` reads routes.toml into `Route` itself, and holds each value to the bounds here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from annotated_types import Ge, Le, Len, Predicate

from ainode.node.domain import UID, UrgentRule

PART_UNKNOWN: Final = "unknown: no anatomic code, Body Part Examined or description names a part"
"""what is found of an image whose header names no body part"""
AN_IMAGE: Final = "an image"
HAS_PIXELS: Final = "an image with pixels"
NOT_OURS: Final = "nothing made by this node"
NO_LOCALIZER: Final = "no localizer"
NOT_DERIVED: Final = "no DERIVED\\SECONDARY picture"
OF_EVERY_IMAGE: Final = frozenset({AN_IMAGE, HAS_PIXELS, NOT_OURS, NO_LOCALIZER, NOT_DERIVED})
"""what the conditions of every route expect, whatever the route says"""
ENOUGH_IMAGES: Final = "number of images that fit"
"""the name of what `min_instances` counts"""
NOT_SHOWN: Final = "a patient attribute, not shown"
"""what is found of an attribute of the patient"""
NOT_KEPT: Final = "a value that is not kept"
"""what the catalog keeps of a value that may be a person's words; in the rows of nodes of before, too"""
PIXELS_TOO: Final = ", or a CT that names no part"
"""what a route with `body_part_from = "pixels"` takes beside its body parts"""
SEEN_PARTS: Final = frozenset({"CHEST", "ABDOMEN"})
"""what a look at the pixels of a CT can tell (`imaging.ct_look`)"""
CONDITIONS: Final = (
    *("modality", "body_part", "body_part_from", "tags"),
    *("required_series", "companions", "min_instances"),
)
"""the keys of a route that say which images it takes"""


class RouteMode(StrEnum):
    """What happens with the documents of a route."""

    LIVE = "live"
    """delivered"""
    SHADOW = "shadow"
    """kept in the node only, for comparison"""


class BodyPartSource(StrEnum):
    """What says which body part a CT shows, where a route names body parts."""

    HEADER = "header"
    """codes, Body Part Examined and descriptions; a CT whose header names no part is not read"""
    PIXELS = "pixels"
    """the header, and of a CT whose header names no part, the look of the handler at its pixels"""


@dataclass(frozen=True, slots=True)
class PriorRule:
    """`[route.priors]` of routes.toml: which earlier studies a route is given beside the study to read."""

    source: str
    """name of the [[peer]] that is asked"""
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    """patterns for what the archive says of a series: SeriesDescription, NumberOfSeriesRelatedInstances, …"""
    count: Annotated[int, Ge(1), Le(20)] = 2
    """studies, the newest first"""
    max_age_days: Annotated[int, Ge(1), Le(36_500)] = 1825
    max_series: Annotated[int, Ge(1), Le(50)] = 4
    """per study, those with the most instances first"""
    timeout_s: Annotated[float, Ge(0.05), Le(86_400)] = 60.0
    """then the study is read without them"""
    allow_missing_birth_date: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """`[[route]]` of routes.toml: what a series must look like to be read by `handler`."""

    name: Annotated[str, Len(1, 64), Predicate(str.isprintable)]
    handler: Annotated[str, Len(1, 200), Predicate(str.isprintable)]
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    body_part_from: BodyPartSource = BodyPartSource.HEADER
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    """DICOM keyword to pattern; patterns are described in config/routes.toml"""
    required_series: tuple[Mapping[str, str], ...] = field(default=(), hash=False)
    companions: tuple[str, ...] = ()
    """modalities that the handler is given beside the images, such as SR, SEG and RTSTRUCT"""
    priors: PriorRule | None = None
    min_instances: Annotated[int, Ge(1), Le(1_000_000)] = 1
    priority: Annotated[int, Ge(1), Le(1000)] = 100
    urgent: UrgentRule | None = None
    urgent_tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    """DICOM keyword to pattern: a study with an image that fits all of them is read as if `priority` were 1"""
    destinations: tuple[str, ...] = ()
    mode: RouteMode = RouteMode.LIVE
    report_out_of_scope: bool = False
    allow_demonstration: bool = False
    """whether a live route answers with demonstration weights"""
    detect: bool = False
    """whether the handler searches for what nobody pointed at; what it finds are candidates"""
    most_candidates: Annotated[int, Ge(1), Le(20)] = 5
    """candidates of a search that are reported, the surest first; the others are counted"""

    def takes_same_images(self, other: "Route") -> bool:
        """Return whether both routes have the same conditions."""
        return not self.other_conditions(other)

    def other_conditions(self, other: "Route") -> tuple[str, ...]:
        """Return each condition that another route states differently, in words: some studies are of one route then."""
        values = {key: (getattr(self, key), getattr(other, key)) for key in CONDITIONS}
        return tuple(
            f"{key}: {self.name} {mine or 'any'}, {other.name} {others or 'any'}"
            for key, (mine, others) in values.items()
            if _unordered(mine) != _unordered(others)
        )

    @property
    def wanted_candidates(self) -> int:
        """Return how many candidates the handler searches; 0 without a search."""
        return self.most_candidates if self.detect else 0

    @property
    def live_destinations(self) -> tuple[str, ...]:
        """Return where documents of this route go, nowhere from a shadow."""
        return self.destinations if self.mode is RouteMode.LIVE else ()

    def withholding_reason(self, demonstration_weights: Sequence[str]) -> str:
        """Return why documents of this live route stay in the node, empty where they leave.

        `demonstration_weights` names the handler's weights of status `demonstration`.
        """
        if self.mode is not RouteMode.LIVE or self.allow_demonstration or not demonstration_weights:
            return ""
        names = ", ".join(demonstration_weights)
        keys = "allow_demonstration = true" if self.destinations else "allow_demonstration = true and destinations"
        return (
            f"not ready for patients: the weights {names} are for demonstration; route "
            f"{self.name!r} runs as shadow, its documents stay in the node; to let them leave, set {keys} in the route "
            "(routes.toml) and type `ainode reload`, then `ainode retry JOB` sends what was withheld; for weights of "
            f"patients of your own, `ainode train {demonstration_weights[0].split('/')[0]}` and `ainode weights import`"
        )


def _unordered(value: object) -> object:
    """Return a value of a route so that the order of several does not count."""
    return sorted(map(str, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of a route held against one series, in words a person can act on."""

    attribute: str
    expected: str
    found: str
    passed: bool


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Why a route matched a series or did not."""

    route: str
    series_instance_uid: UID
    checks: tuple[Check, ...]

    @property
    def matched(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def difference(attribute: str, expected: str, found: str) -> str:
    """Return what a route takes and what is there instead, in words that follow the name of the route.

    Both stand side by side: which of them is wrong, the header or the choice of the route, the node cannot know.
    """
    wanted = f"{expected} ({attribute})" if expected in OF_EVERY_IMAGE else f"{attribute} {expected}"
    return (
        f"takes {wanted}, and this has another value, which is not kept"
        if found == NOT_KEPT
        else (f"takes {wanted}, and this is {found}")
    )


def remedy(attribute: str, expected: str, found: str) -> str:
    """Return what makes a route take what it does not take now; '' where that depends on which of both is wrong."""
    if attribute != "BodyPartExamined" or found != PART_UNKNOWN:
        return ""
    header = "name the body part in BodyPartExamined, and send the images again"
    # A route whose `body_part_from` is pixels takes a CT that names no part: the image is none.
    if PIXELS_TOO in expected or SEEN_PARTS.isdisjoint(expected.upper().split()):
        return header
    return (
        f'for a CT, write body_part_from = "pixels" into the route (routes.toml) and type `ainode reload`; or {header}'
    )


def mismatch_sentence(route: str, attribute: str, expected: str, found: str) -> str:
    """Return the condition that failed as one sentence; `route` is '' for what the node asks of every study."""
    if route:
        return f"route {route} {difference(attribute, expected, found)}"
    return f"{attribute}: the node wants {expected}, and this is {found}"
