"""The table `[workers]` of node.toml: how processes on one database know each other to be alive."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from ainode.node.settings.frozen import Frozen


class WorkersTable(Frozen):
    """`[workers]`: how the processes that share the jobs of a PostgreSQL find out that one of them is dead."""

    beat_s: Annotated[float, Field(ge=0.1, le=60)] = 5.0
    """so often each process says that it lives"""
    dead_after_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """without a beat for so long, by the clock of the database, others do its work and it does nothing more"""
    handlers: tuple[str, ...] = ()
    """handlers that workers alone read with: the node takes no reading of them"""

    @model_validator(mode="after")
    def _refuse_hasty_burial(self) -> Self:
        if self.dead_after_s < 4 * self.beat_s:
            message = "dead_after_s is less than four times beat_s: one late beat would be taken for a death; give more"
            raise ValueError(message)
        return self
