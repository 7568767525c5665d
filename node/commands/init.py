"""`ainode init`: the configuration of a new node, whose console is on and is reached from this machine alone."""

import json
import re
import shlex
from pathlib import Path
from typing import Final

from ainode.node.errors import ConfigError
from ainode.node.settings.files import shipped
from ainode.node.terminal import program

_NAMES: Final = ("node.toml", "routes.toml")
_DATA: Final = re.compile(r'^data = "[^"\n]*"', re.MULTILINE)
_WEB_OFF: Final = re.compile(r"^(\[web\][^\n]*\n)enabled = false", re.MULTILINE)


def write_configuration(folder: Path) -> str:
    """Write node.toml and routes.toml, and return the next commands.

    Raises: ConfigError if the folder has one of the files, or cannot be written.
    """
    folder = folder.expanduser().absolute()
    for path in (folder / name for name in _NAMES):
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path}: exists; give another folder, or move the file away")
    node = shipped("node.toml").read_text(encoding="utf-8")
    node = _DATA.sub(lambda _: f"data = {json.dumps(str(folder / 'data'), ensure_ascii=False)}", node, count=1)
    node = _WEB_OFF.sub(r"\1enabled = true ", node, count=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(_NAMES, (node, shipped("routes.toml").read_text(encoding="utf-8")), strict=True):
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error
    return _next_commands(folder / "node.toml")


def _next_commands(config: Path) -> str:
    option = f"--config {shlex.quote(str(config))}"
    return f"""wrote {config} and routes.toml beside it
Next:
  {program()} user add NAME --role administrator {option}
  {program()} serve {option}
Then open http://127.0.0.1:8080/ on this machine."""
