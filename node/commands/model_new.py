"""The command `ainode model new`: the folder of a model, and the draft of its description."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from ainode.node.terminal import Config, Replace, plain_path, settings_of


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the model: small letters, digits, underscores")],
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            exists=True,
            dir_okay=False,
            readable=True,
            callback=plain_path,
            help="ONNX, TorchScript, Keras, safetensors",
        ),
    ],
    kind: Annotated[
        str, typer.Option(help="classify, detect, landmarks or segment; else what the file looks like")
    ] = "",
    *,
    replace: Replace = False,
    config: Config = None,
) -> None:
    """Make the folder of a model: a copy of the file, and a model.toml with what the file tells and what is asked.

    Nothing of the file is run. Exit 2 if there is such a model, or the file holds no network that can be described.
    """
    from ainode.node.commands.recording import record_change
    from ainode.node.commands.site_models import new_folder, next_lines, refuse_taken
    from ainode.node.disk import sha256_of
    from ainode.node.errors import ConfigError
    from ainode.node.reading import described, registry

    settings = settings_of(config)
    refuse_taken(settings, name, replaces=replace)
    drafting = registry.drafting()
    companions = drafting.facts_of(source).companions
    paths = {path: source.parent / path for path in (source.name, *companions)}
    if missing := [path for path in paths.values() if not path.is_file()]:
        raise ConfigError(f"{source.name} takes data from {missing[0].name}, which is not beside it")
    draft = drafting.draft(source, kind, {path: sha256_of(place) for path, place in paths.items()})
    with new_folder(settings, name) as folder:
        for path, place in paths.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, folder / path)
        (folder / described.DESCRIPTION).write_text(draft.text, encoding="utf-8")
    record_change(settings, f"model:{name}", "described")
    for line in next_lines(settings, name, draft.questions, config, (draft.reason,)):
        print(line)
