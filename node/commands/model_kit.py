"""The command `ainode model test`: the kit that every model must pass."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ainode.node import logs
from ainode.node.terminal import Config, settings_of


def prove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a handler, shipped or of a site")],
    data: Annotated[
        Path | None, typer.Option(help="folder of DICOM studies; else the handler's own synthetic study")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for model-test.json")] = None,
    seed: Annotated[int, typer.Option(help="seed of the synthetic study")] = 0,
    config: Config = None,
) -> None:
    """Test a model: one study in many clothes, studies it must refuse, repetition, memory, time, codes, validators.

    Each check is a line: passed, FAILED, not applicable or not checked, and why. Exit 1 if a check failed.
    """
    from ainode.node.commands.program_terminal import Terminal
    from ainode.node.proving.kit import Kit, is_passed, write_report
    from ainode.node.reading import registry
    from ainode.node.reading.program_words import kept_words
    from ainode.node.reading.weights import environment

    settings = settings_of(config)
    registry.refuse_route(name, settings.routes, settings.models)
    with kept_words() as words:
        models = replace(environment(settings), words=words.path)
        show_words = Terminal(name, words).show
        kit = Kit(name, settings, models, lambda line: print(logs.printable(line), flush=True), show_words)
        reports = kit.run(data, seed)
    if out:
        print(write_report(out, kit, reports, datetime.now(UTC)))
    raise typer.Exit(0 if is_passed(reports) else 1)
