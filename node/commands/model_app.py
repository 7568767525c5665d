"""The commands about models that the site describes: `ainode model`."""

import typer

from ainode.node.commands.model_import import model_import
from ainode.node.commands.model_kit import prove
from ainode.node.commands.model_new import new
from ainode.node.commands.model_program import program
from ainode.node.terminal import Config, settings_of, table

model_app = typer.Typer(
    no_args_is_help=True,
    help="Models of your own, described by a model.toml: new, program, list; import a MONAI bundle; test, ours too.",
)
model_app.command("new")(new)
model_app.command("program")(program)
model_app.command("import")(model_import)
model_app.command("test")(prove)


@model_app.command("list")
def model_list(config: Config = None) -> None:
    """List the models in the folder `models` of the data folder, and what is wrong with a description.

    Nothing of a model's file runs.
    """
    from ainode.node.errors import ConfigError
    from ainode.node.reading import described, registry
    from ainode.node.reading.weights import environment

    settings = settings_of(config)
    models, weights_and_models = settings.models, environment(settings)
    rows: list[tuple[object, ...]] = []
    for name in described.names(models):
        try:
            model = described.described(name, models)
            entry = model.entry
            registry.handler(name, weights_and_models)  # which holds each key of the description, its codes too
            state = "" if entry.is_present else f"{entry.path.name} is absent"
            rows.append((name, model.kind, model.format, entry.version, entry.status, entry.licence, state))
        except ConfigError as error:
            rows.append((name, "", "", "", "", "", str(error)))
    print(table(("name", "handler", "format", "version", "status", "licence", "to do"), rows))
    if not rows:
        print(f"no model lies in {models}")
