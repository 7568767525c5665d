from collections.abc import Iterable

from ainode.node.domain import Instance, Location
from ainode.node.imaging.positions import pointed_locations


def locations(instances: Iterable[Instance], *, own_reports: bool = False) -> tuple[Location, ...]:
    """Return the locations alone, without the objects that point at them."""
    return tuple(pointed.location for pointed in pointed_locations(instances, own_reports=own_reports))
