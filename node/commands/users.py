"""`ainode user`: who may use the console."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node.errors import ConfigError
from ainode.node.terminal import Config, settings_of, table

if TYPE_CHECKING:
    from ainode.node.keeping.people import People
    from ainode.node.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Who may use the console: add, list, remove, password, role.")
_ROLE_WORDS = "viewer, reader, operator or administrator"
Name = Annotated[str, typer.Argument(help="login name; upper and lower case are the same person")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="read the password from standard input: 15 characters or more")
]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help=_ROLE_WORDS)] = "viewer",
    password_stdin: FromStdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="for a person who comes through a proxy that names persons")
    ] = False,
    config: Config = None,
) -> None:
    """Add a person; the password is asked for on the terminal."""
    from ainode.node.keeping.people import Role, person_name

    settings = settings_of(config)
    name = person_name(name)
    Role.of(role)  # a wrong one is refused before anybody types a password
    password = None if no_password else entered_password(name, from_stdin=password_stdin)
    add_person(settings, name, role, password)


def add_person(settings: "Settings", name: str, role: str, password: str | None) -> None:
    """Add a person, and say it; without a password, a proxy names the person.

    Raises: ConfigError if there is such a person, or no such role.
    """
    from ainode.node.keeping.people import Role

    people(settings).add(name, Role.of(role), password, datetime.now(UTC))
    _record(settings, name, f"a person with the role {role} was added")
    print(f"{name} may log in as {role}")


@app.command("list")
def list_persons(config: Config = None) -> None:
    """List the persons and their roles."""
    rows = (
        (person.name, person.role.word, f"{person.created_at:%Y-%m-%d}", "yes" if person.has_password else "no")
        for person in people(settings_of(config)).all()
    )
    print(table(("name", "role", "added", "password"), rows))


@app.command()
def remove(name: Name, config: Config = None) -> None:
    """Remove a person; every session of the person ends at once."""
    settings = settings_of(config)
    people(settings).remove(name.lower())
    _record(settings, name.lower(), "a person was removed")


@app.command()
def password(name: Name, password_stdin: FromStdin = False, config: Config = None) -> None:
    """Give a person another password; every session of the person ends at once."""
    settings = settings_of(config)
    people(settings).change_password(name.lower(), entered_password(name.lower(), from_stdin=password_stdin))
    _record(settings, name.lower(), "the password of a person was changed")


@app.command()
def role(name: Name, role: Annotated[str, typer.Argument(help=_ROLE_WORDS)], config: Config = None) -> None:
    """Give a person another role; every session of the person ends at once."""
    from ainode.node.keeping.people import Role

    settings = settings_of(config)
    people(settings).change_role(name.lower(), Role.of(role))
    _record(settings, name.lower(), f"the role of a person was changed to {role}")


def people(settings: "Settings") -> "People":
    """Return the persons of a node; the database is made if no node has run yet.

    Raises: ConfigError if a node of another version made the database.
    """
    from ainode.node.disk import make_folder
    from ainode.node.keeping import database
    from ainode.node.keeping.people import People
    from ainode.node.keeping.permissions import Permissions

    Permissions.of_group(settings.node.group).apply_to_process()
    make_folder(settings.data)
    engine = database.connect(settings.database_url)
    if database.revision(engine) is None:
        database.migrate(engine)
    elif database.revision(engine) != database.HEAD:
        raise ConfigError("the database is of another version of ainode; start the node of this version first")
    return People(engine)


def entered_password(name: str, *, from_stdin: bool) -> str:
    """Return a password from the terminal or from standard input, whose end of line does not count.

    Raises: ConfigError if the password is refused, before anything is changed.
    """
    from ainode.node.keeping.passwords import MIN_LENGTH, refuse_weak

    if from_stdin:
        text = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        prompt = f"Password of {name} ({MIN_LENGTH} characters or more)"
        text = str(typer.prompt(prompt, hide_input=True, confirmation_prompt=True))
    else:
        raise ConfigError("there is no terminal to ask for the password; give --password-stdin")
    refuse_weak(text, name)
    return text


def _record(settings: "Settings", name: str, sentence: str) -> None:
    from ainode.node.commands.recording import record_person

    record_person(settings, f"person:{name}", sentence)
