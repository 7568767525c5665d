"""What the room of documents costs those who need a part of it."""

import subprocess
import sys

import pytest
from support.node import ROOT

from ainode.node import reports


@pytest.mark.parametrize(
    ("module", "packages"),
    [("ainode.node.app", {"pydantic", "pydicom"}), ("ainode.node.reading.pipeline", {"pydicom", "highdicom"})],
)
def test_a_node_starts_without_what_writes_objects_and_a_reader_without_pages_and_settings(
    module: str, packages: set[str]
) -> None:
    program = f"import sys, {module}; print(*{{'highdicom', 'pydantic', 'pydicom', 'reportlab'}} & set(sys.modules))"
    environment = {"PYTHONPATH": str(ROOT / ".ns")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == packages


def test_every_public_name_of_the_room_is_a_function_and_another_name_is_none() -> None:
    assert all(callable(getattr(reports, name)) for name in reports.__all__)
    with pytest.raises(AttributeError, match=r"^module 'ainode\.node\.reports' has no attribute 'reports_pdf'$"):
        reports.reports_pdf  # noqa: B018 - the look-up is what fails
