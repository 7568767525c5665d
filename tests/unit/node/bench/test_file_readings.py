import sys

import pytest

from ainode.node.bench.file_readings import cost_of


def test_the_cost_of_a_program_is_that_of_the_program_alone() -> None:
    hoard = "import sys; content = bytearray(300_000_000); content[::4096] = bytes(len(content[::4096]))"
    idle, busy = (cost_of([sys.executable, "-c", program], {}) for program in ("pass", hoard))
    assert busy.resident_mb - idle.resident_mb > 200
    assert idle.processor_s > 0
    assert idle.wall_s > 0


def test_a_program_that_fails_has_no_cost_and_says_why() -> None:
    with pytest.raises(OSError, match="exit status 3: no weights"):
        cost_of([sys.executable, "-c", "import sys; print('no weights', file=sys.stderr); sys.exit(3)"], {})
