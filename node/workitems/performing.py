"""Who performs a workitem, and where its results are. Pure, but for the clock of the settings."""

from collections.abc import Mapping
from datetime import datetime

from ainode.node.archive.workitem import Output, Performance, Workitem, performed_workitem
from ainode.node.domain import Code, InstanceRef
from ainode.node.identity import on_clock
from ainode.node.settings import Settings
from ainode.node.workitems.parts import Parts, Worklist

# PS3.16 8.2: a scheme of the node's own.
_SCHEME = "99AINODE"


def performance(workitem: Workitem, worklist: Worklist, parts: Parts, begun_at: datetime) -> Performance:
    """Return who performs an item: the station for which it was scheduled, else the node by its AE title."""
    table, node = worklist.table, parts.settings.node
    value = table.station_code or node.ae_title
    scheduled = (code for code in workitem.station_codes if code.value == value and code.scheme and code.meaning)
    own = Code(value, _SCHEME, table.station_name or node.name)
    return Performance(next(scheduled, own), on_clock(parts.settings, begun_at), performed_workitem(workitem))


def outputs_at(places: Mapping[str, tuple[InstanceRef, ...]], settings: Settings) -> tuple[Output, ...]:
    """Return the documents with the AE title and the address of the archive that has them."""
    peers = {peer.name: peer for peer in settings.peers}
    return tuple(
        Output(refs, peers[name].ae_title, peers[name].dicomweb) if name in peers else Output(refs)
        for name, refs in places.items()
    )
