"""The command that installs missing packages fits the Python that runs and the way in which ainode is installed."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from ainode.models.errors import installation as of_the_models
from ainode.node.errors import installation
from ainode.node.reading.boundary import installation_of


@pytest.mark.parametrize(("origin", "option"), [({}, ""), ({"editable": True}, "-e "), (None, "-e ")])
def test_the_command_keeps_an_installation_as_it_is_and_names_the_python_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: dict[str, bool] | None, option: str
) -> None:
    folder = tmp_path / "ainode-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: ainode\nVersion: 0.1.0\n")
    if origin is not None:  # else the metadata of a checkout
        (folder / "direct_url.json").write_text(json.dumps({"url": "file:///checkout", "dir_info": origin}))
    monkeypatch.syspath_prepend(tmp_path)
    command = f"{shlex.quote(sys.executable)} -m pip install -c constraints.txt {option}'.[web]'"
    assert installation("web") == of_the_models("web") == f"in the checkout of ainode: {command}"


@pytest.mark.parametrize(
    ("packages", "extras"),
    [(("ultralytics",), "[detect]"), (("timm",), "[models]"), (("ultralytics.nn", "timm"), "[models,detect]")],
)
def test_the_extra_that_has_ultralytics_is_named_only_where_ultralytics_is_missing(
    packages: tuple[str, ...], extras: str
) -> None:
    assert extras in installation_of(packages)
