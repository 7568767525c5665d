"""`[peer.worklist]` of node.toml: which workitems of an archive's worklist the node performs, by UPS-RS."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from ainode.node.settings.frozen import Frozen
from ainode.node.settings.values import COMPARED, PRINTED, ROUTE_NAME, Seconds

# PS3.5 6.2: LO of a Worklist Label, SH of a Code Value.
_Label = Annotated[str, StringConstraints(strip_whitespace=True, max_length=64, pattern=COMPARED)]
_CodeValue = Annotated[str, StringConstraints(strip_whitespace=True, max_length=16, pattern=COMPARED)]
_Meaning = Annotated[str, StringConstraints(strip_whitespace=True, max_length=64, pattern=PRINTED)]
_RouteName = Annotated[str, StringConstraints(pattern=ROUTE_NAME)]
_DAY_S: Final = 86_400.0


class WorklistTable(Frozen):
    """`[peer.worklist]`: the node claims and performs workitems that are scheduled and whose input is ready."""

    label: _Label = ""
    """only items with this Worklist Label (0074,1202)"""
    workitem_code: _CodeValue = ""
    """only items with this Code Value in Scheduled Workitem Code Sequence (0040,4018)"""
    station_code: _CodeValue = ""
    """only items with this Code Value in Scheduled Station Name Code Sequence (0040,4025)"""
    station_name: _Meaning = ""
    """the meaning of the code under which the node says that it performed an item; '' is the name of the node"""
    routes: tuple[_RouteName, ...] = ()
    """routes whose answers are those of an item; () is every route that takes the study"""
    poll_s: Seconds = 30.0
    """how long until the next search"""
    subscribe: bool = False
    """whether the worklist reports new items and requests of cancellation over a WebSocket; searches go on"""
    most_claimed: Annotated[int, Field(ge=1, le=1000)] = 4
    """so many items are claimed at once, so that other performers have the rest"""
    limit_s: Seconds = _DAY_S
    """an item that is not finished so long after it was claimed is canceled"""

    @property
    def is_filtered(self) -> bool:
        """Return whether the node performs only some of the items that are scheduled and ready."""
        return bool(self.label or self.workitem_code or self.station_code)
