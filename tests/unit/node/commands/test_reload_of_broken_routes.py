"""What `ainode reload` says of routes that the node took up and that cannot read."""

from datetime import UTC, datetime
from pathlib import Path

from support.described import DESCRIPTION, write_model

from ainode.node.commands.reloading import words_of
from ainode.node.diagnosis.checks import route_lines
from ainode.node.settings import load
from ainode.node.starting.reload import Outcome

ROUTE = """[[route]]
name = "{name}"
handler = "{name}"
modality = ["DX"]
destinations = []
"""


def test_a_reload_names_a_body_part_of_a_route_that_its_model_never_reads(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network: nothing opens the file")
    write_model(tmp_path / "models", "bright", tmp_path / "net.onnx")
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text(f'{ROUTE.format(name="bright")}body_part = ["ABDOMEN", "CHEST"]\n')
    settings = load(config)
    words, status = words_of(Outcome(datetime.now(UTC), (), ()), settings)
    unread = "it takes ABDOMEN, which its model refuses: [takes] of bright has DX and CHEST"
    assert (status, words.splitlines()[-1]) == (0, f"route bright: {unread}")
    assert next(route_lines(settings))[2].endswith(unread)


def test_a_reload_names_the_routes_that_cannot_read_and_why(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network: nothing opens the file")
    write_model(tmp_path / "models", "right", tmp_path / "net.onnx")
    write_model(tmp_path / "models", "wrong", tmp_path / "net.onnx", DESCRIPTION.replace("816094009", "816094008"))
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata = "{tmp_path}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("".join(ROUTE.format(name=name) for name in ("right", "wrong")))
    words, status = words_of(Outcome(datetime.now(UTC), (), ("[[route]] wrong: new",)), load(config))
    change, summary, *broken = words.splitlines()
    assert (status, change) == (0, "[[route]] wrong: new")
    assert summary == "the node works with 2 routes and 0 peers, but 1 of the routes cannot read:"
    assert broken[0].startswith("route wrong is not ready: ")
    assert "this is no identifier of SNOMED CT" in words
    assert "route right" not in words
