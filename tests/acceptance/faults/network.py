"""Faults of the network, at the boundaries of PDUs, before the node and behind the node."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from acceptance.faults.installation import Installation
from acceptance.faults.judgement import Row, judged, open_studies
from acceptance.faults.sender import SentStudy, new_studies
from support.proxy import Fault, Harm, Proxy, Side

HARMS: Final = {
    "cut": (Harm.CUT_BEFORE, Harm.CUT_INSIDE, Harm.CUT_BEHIND),
    "doubled": (Harm.DUPLICATE, Harm.REPLAY),
    "corrupted": (Harm.WRONG_TYPE, Harm.WRONG_LENGTH, Harm.WRONG_CONTEXT),
}
_PDUS: Final = {Side.CALLER: 14, Side.CALLED: 5}
"""as many PDUs as an association has about"""
_SUFFERED_S: Final = 180.0
_STUDIES_AT_ONCE: Final = 3


def network_rows(installation: Installation, times: int, seed: int) -> Iterator[Row]:
    """Yield a row for each harm, to the way in and to the way out."""
    chance = random.Random(seed)
    for name, harms in HARMS.items():
        for place, proxy in (("modality to node", installation.entrance), ("node to archive", installation.exit)):
            faults = [_fault(chance, harms[number % len(harms)]) for number in range(times)]
            yield _suffered(installation, proxy, f"{place}: {name}", faults)
    for place, proxy in (("modality to node", installation.entrance), ("node to archive", installation.exit)):
        faults = [_fault(chance, Harm.STALL) for _ in range(max(1, times // 6))]
        yield _suffered(installation, proxy, f"{place}: stalled", faults)


def _fault(chance: random.Random, harm: Harm) -> Fault:
    side = chance.choice(tuple(Side))
    return Fault(harm, side, chance.randrange(_PDUS[side]))


def _suffered(installation: Installation, proxy: Proxy, name: str, faults: list[Fault]) -> Row:
    """Let as many connections suffer, while studies come and go; then judge."""
    before, studies = proxy.times, list[SentStudy]()
    proxy.faults.extend(faults)
    while proxy.faults:
        more = new_studies(_STUDIES_AT_ONCE)
        studies += more
        installation.modality.send(more)
        installation.wait(partial(_is_over, installation, proxy, more), within_s=_SUFFERED_S)
        if len(studies) > _STUDIES_AT_ONCE * len(faults):
            break
    proxy.calm()
    return judged(installation, Row(name, proxy.times - before), studies)


def _is_over(installation: Installation, proxy: Proxy, studies: Sequence[SentStudy]) -> bool:
    """Return whether every fault was suffered, or the studies make no more connections that could suffer one."""
    return not proxy.faults or not open_studies(installation, studies)
