"""`ainode init`: the configuration of a new node, whose console is on and is reached from this machine alone."""

import errno
import json
import re
import shlex
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from ainode.node.commands.initial_routes import routes_text, unready_lines
from ainode.node.errors import ConfigError
from ainode.node.keeping.people import person_name
from ainode.node.settings import load
from ainode.node.settings.files import shipped
from ainode.node.settings.values import PATTERN_WORDS, AETitle, Host
from ainode.node.terminal import program

_NAMES: Final = ("node.toml", "routes.toml")
_DATA: Final = re.compile(r'^data = "[^"\n]*"', re.MULTILINE)
_WEB_OFF: Final = re.compile(r"^(\[web\][^\n]*\n)enabled = false", re.MULTILINE)
_ARCHIVE: Final = re.compile(r"(?P<title>[^@]+)@(?P<host>\[[^\]]+\]|[^\s:@]+):(?P<port>\d{1,5})")
_CONSOLE_PORT: Final = 8080
_WEB_PORT: Final = re.compile(rf"^port = {_CONSOLE_PORT}\b", re.MULTILINE)
_PORTS: Final = 65_535
_FIRST_COMMON_PORT: Final = 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that sends studies and gets the results."""

    ae_title: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """Return the name of its [[peer]]: its AE title in small letters, such as `orthanc`."""
        return re.sub(r"[^a-z0-9_.-]", "-", self.ae_title.lower()).lstrip("_.-") or "archive"


@dataclass(frozen=True, slots=True)
class Answers:
    """What a person answers."""

    ae_title: str = "AINODE"
    port: int = 11112
    archive: Archive | None = None
    data: Path | None = None
    """None for the folder `data` beside node.toml"""
    user: str = ""
    """an administrator of the console; '' for nobody yet"""


@dataclass(frozen=True, slots=True)
class Choices:
    """What nobody is asked, and options alone change."""

    console_port: int = _CONSOLE_PORT
    models: tuple[str, ...] | None = None
    """the shipped models that get a route; None for all of them"""


def ae_title_of(text: str) -> str:
    """Return an AE title.

    Raises: ConfigError.
    """
    try:
        return TypeAdapter[str](AETitle).validate_python(text)
    except ValidationError as error:
        raise ConfigError(
            f"{text!r} is no AE title: give 1 to 16 letters, digits, spaces and signs of ASCII"
        ) from error


def port_of(text: str) -> int:
    """Return a port.

    Raises: ConfigError.
    """
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _PORTS):
        raise ConfigError(f"{text!r} is no port: give a number from 1 to {_PORTS}; 104 and other small ones need root")
    return int(text)


def receiving_port_of(text: str, console_port: int) -> int:
    """Return the port on which the node receives, which is another than the console's.

    Raises: ConfigError.
    """
    port = port_of(text)
    if port == console_port:
        raise ConfigError(f"port {port} is that of the console; give another, or the console another by --console-port")
    return port


def archive_of(text: str) -> Archive | None:
    """Return the archive that a text such as `ORTHANC@127.0.0.1:4242` names, None for ''.

    Raises: ConfigError.
    """
    if not text.strip():
        return None
    match = _ARCHIVE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no archive: give AE@HOST:PORT, such as ORTHANC@127.0.0.1:4242")
    host = match["host"].strip("[]")
    try:
        TypeAdapter[str](Host).validate_python(host)
    except ValidationError as error:
        raise ConfigError(
            f"{host!r} {next(iter(PATTERN_WORDS[key] for key in PATTERN_WORDS if '0-9A-Fa-f:.' in key))}"
        ) from error
    return Archive(ae_title_of(match["title"]), host, port_of(match["port"]))


def user_of(text: str) -> str:
    """Return a login name, '' for nobody.

    Raises: ConfigError.
    """
    return person_name(text) if text.strip() else ""


def answers_from_terminal(folder: Path, console_port: int) -> Answers:
    """Ask the five questions on the terminal; an answer that is refused is asked for again."""
    typer.echo(f"Five questions, then {folder / 'node.toml'} is written. Return takes what stands in brackets.")
    return Answers(
        _ask("AE title of this node", "AINODE", ae_title_of),
        _ask("Port on which it receives", "11112", lambda text: receiving_port_of(text, console_port)),
        _ask("Archive that sends studies and gets results, AE@HOST:PORT (empty for none yet)", "", archive_of),
        _ask(
            "Folder for what it receives and makes",
            str(folder / "data"),
            lambda text: Path(text).expanduser().absolute(),
        ),
        _ask("Login name of an administrator of the console (empty for nobody yet)", "", user_of),
    )


def _ask(question: str, default: str, value_of: Callable[[str], T]) -> T:
    while True:
        text = str(typer.prompt(question, default=default, show_default=bool(default)))
        try:
            return value_of(text)
        except ConfigError as error:
            typer.echo(f"  {error}")


def write_configuration(folder: Path, answers: Answers | None = None, choices: Choices | None = None) -> Path:
    """Write node.toml and routes.toml, and return the path of node.toml.

    Raises: ConfigError if the folder has one of the files or cannot be written, the archive's name has no address, or
    the answers make no sound configuration: then nothing is written.
    """
    folder, answers, choices = folder.expanduser().absolute(), answers or Answers(), choices or Choices()
    for path in (folder / name for name in _NAMES):
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path}: exists; give another folder, or move the file away")
    texts = (
        _node_text(answers, answers.data or folder / "data", choices.console_port),
        routes_text(choices.models, answers.archive.name if answers.archive else ""),
    )
    _refuse_unsound(folder, texts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(_NAMES, texts, strict=True):
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); give another folder") from error
    return folder / "node.toml"


def _refuse_unsound(folder: Path, texts: Sequence[str]) -> None:
    """Return if files with these texts are a configuration: an archive may be the node itself.

    Raises: ConfigError that names the files as they would be in the folder.
    """
    with TemporaryDirectory() as trial:
        for name, text in zip(_NAMES, texts, strict=True):
            (Path(trial) / name).write_text(text, encoding="utf-8")
        try:
            load(Path(trial) / "node.toml")
        except ConfigError as error:
            raise ConfigError(f"{str(error).replace(trial, str(folder))}\nnothing was written") from error


def _node_text(answers: Answers, data: Path, console_port: int) -> str:
    text = shipped("node.toml").read_text(encoding="utf-8")
    text = _DATA.sub(lambda _: f"data = {_quoted(str(data))}", text, count=1)
    text = _WEB_OFF.sub(r"\1enabled = true ", text, count=1)
    text = _WEB_PORT.sub(f"port = {console_port}", text, count=1)
    changes = {"ae_title": _quoted(answers.ae_title), "port": str(answers.port)}
    archive = answers.archive
    if archive and (callers := _callers(archive)):
        changes |= {"bind": _quoted("0.0.0.0"), "allow": json.dumps(["*@127.0.0.0/8", *callers])}  # noqa: S104 - who calls is in `allow`
    for key, value in changes.items():
        text = _changed(text, key, value)
    if archive:
        text += (
            f"\n[[peer]]\nname = {_quoted(archive.name)}\nae_title = {_quoted(archive.ae_title)}\n"
            f"host = {_quoted(archive.host)}\nport = {archive.port}\n"
        )
    return text


def _changed(text: str, key: str, value: str) -> str:
    """Return the text with another value of a key of its first table, whose comment stays where there is room."""
    return re.sub(
        rf"^{key} = (\"[^\"\n]*\"|\[[^\]\n]*\]|\d+)", lambda _: f"{key} = {value}", text, count=1, flags=re.MULTILINE
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _callers(archive: Archive) -> list[str]:
    """Return the entries of `allow` for an archive; none on this machine, which may call in any case.

    Raises: ConfigError if the name of the archive has no address.
    """
    try:
        numbers = {entry[4][0] for entry in socket.getaddrinfo(archive.host, archive.port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise ConfigError(
            f"{archive.host}: the name has no address here ({error}); give the archive's address"
        ) from error
    addresses = sorted(str(address).partition("%")[0] for address in numbers)
    return [f"{archive.ae_title}@{address}" for address in addresses if not ip_address(address).is_loopback]


def next_commands(config: Path, answers: Answers, choices: Choices) -> str:
    """Return what to type next, and which ports of the configuration are in use now."""
    option = f"--config {shlex.quote(str(config))}"
    lines = [f"wrote {config} and routes.toml beside it"]
    if choices.models is None:
        lines.append(
            "Every model that ships has a route. To leave one out, remove its [[route]] from routes.toml; next time "
            "`init --models A,B` writes those of A and B alone, --models none none."
        )
    lines += [*unready_lines(choices.models), *_ports_in_use(answers, choices), "Next:"]
    if not answers.user:
        lines.append(f"  {program()} user add NAME --role administrator {option}")
    lines += [f"  {program()} check {option}", f"  {program()} serve {option}"]
    return "\n".join([*lines, f"Then open http://127.0.0.1:{choices.console_port}/ on this machine."])


def _ports_in_use(answers: Answers, choices: Choices) -> list[str]:
    """Return a sentence for each of the two ports that another program of this machine has now."""
    tables = (("node", answers.port, "on which the node receives"), ("web", choices.console_port, "of the console"))
    taken = {answers.port, choices.console_port}
    return [
        f"Port {port}, {words}, is in use on this machine now: stop what has it, or write port = "
        f"{_free_port(port, taken)}, which is free, under [{table}] in node.toml."
        for table, port, words in tables
        if _is_in_use(port)
    ]


def _free_port(port: int, taken: set[int]) -> int:
    """Return the next port after one that no program of this machine has; none below 1024, which need root."""
    candidates = chain(range(max(port + 1, _FIRST_COMMON_PORT), _PORTS + 1), range(_FIRST_COMMON_PORT, port))
    return next(number for number in candidates if number not in taken and not _is_in_use(number))


def _is_in_use(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False
