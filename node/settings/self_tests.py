"""The table `[self_test]` of node.toml."""

from typing import Annotated

from pydantic import Field, StringConstraints

from ainode.node.domain import SELF_TEST_PEER
from ainode.node.settings.frozen import Frozen
from ainode.node.settings.peers import Peer
from ainode.node.settings.values import Port, Seconds


class SelfTestTable(Frozen):
    """`[self_test]`: routes that the node tries each night with the synthetic study of their handler."""

    routes: tuple[str, ...] = ()
    """names of routes; without any, the node tests nothing"""
    time: Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")] = "03:00"
    """on the clock of documents"""
    port: Port = 11119
    """of the destination that the node opens on loopback while it tests"""
    limit_s: Annotated[Seconds, Field(ge=1)] = 900.0
    """for the study of one route, from the first byte sent to the last document received"""
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.001
    """by how much a probability or another score may differ from the golden one, of a score above 1 by which part"""
    slow_factor: Annotated[float, Field(ge=1, le=1000)] = 3.0
    """a reading that takes as many times the golden seconds, and 5 s more, is too slow"""

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Return the destination of the tests; none where nothing is tested."""
        peer = Peer(name=SELF_TEST_PEER, ae_title="AINODE_TEST", host="127.0.0.1", port=self.port)
        return (peer,) if self.routes else ()
