"""A reload asked for in a shell that has not the secrets of the node: the node tells whether it has them."""

from pathlib import Path

import pytest

from ainode.node.commands.reloading import reloaded
from ainode.node.settings import load

PEER = """[[peer]]
name = "a"
deliver = "dicomweb"
retrieve = "dicomweb"
dicomweb = "https://127.0.0.1:1/"
token_env = "NO_SUCH_KEY"
"""


@pytest.mark.parametrize(("more", "status"), [("", 1), ('ca_file = "/absent.pem"\n', 2)])
def test_a_variable_that_this_shell_lacks_keeps_no_reload_from_the_node_and_a_missing_file_does(
    tmp_path: Path, more: str, status: int
) -> None:
    config = tmp_path / "node.toml"
    (tmp_path / "routes.toml").write_text("")
    config.write_text(f'[node]\ndata = "{tmp_path / "data"}"\n{PEER}{more}')
    words, ending = reloaded(config, load(config))
    assert "NO_SUCH_KEY" not in words
    assert ("no node runs on" in words, ending) == (not more, status)
