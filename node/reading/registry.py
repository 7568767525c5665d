"""Handlers by name, imported when first asked for: the node knows no handler otherwise.

A name is that of a module of `handlers/`, of a module of a site's own (`package.module`), or of a model that the site
describes: then the handler that its description names reads by the description.
A node asks only in the process of a reader; a command may ask in its own process.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from ainode.node.domain import Handler, Needs
from ainode.node.errors import ConfigError
from ainode.node.reading import described
from ainode.node.reading.boundary import boundary
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.routes import Route

_OF_DESCRIPTIONS = frozenset({"described", *described.KINDS})
"""modules of `handlers/` that read by the description of a site's model, and what these share"""


def names() -> tuple[str, ...]:
    """Return the name of every handler that ships and reads by itself; no code of a handler runs."""
    spec = importlib.util.find_spec("ainode.handlers")
    folders = (spec and spec.submodule_search_locations) or ()
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders) if module.name not in _OF_DESCRIPTIONS))


def refuse_unknown(name: str, models: Path | None = None) -> None:
    """Return if a handler of that name is installed or a model of that name described; no code of the handler runs.

    Raises: ConfigError.
    """
    is_known = _is_installed(name) if "." in name else name in names() or described.is_described(name, models)
    if not is_known:
        place = f" in {models}; --config names the node whose models are meant" if models else ""
        choices = ", ".join((*names(), *described.names(models))) or "none"
        raise ConfigError(
            f"no handler is named {name!r}; give one of {choices}, a module of your own, `package.module`, or a model "
            f"that `ainode model new` described{place}"
        )


def refuse_route(name: str, routes: Iterable[Route], models: Path | None = None) -> None:
    """Return unless a handler is asked for by the name of a route, which is another than any handler's.

    Raises: ConfigError that names the handler of the route.
    """
    handlers = {route.name: route.handler for route in routes}
    if name in handlers and name not in names() and not described.is_described(name, models):
        raise ConfigError(f"{name} is a route; its handler is {handlers[name]}: give {handlers[name]}")


def _is_installed(name: str) -> bool:
    """Return whether a module can be found, packages that hold it included, without an import of any."""
    path: Sequence[str] | None = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        full_name = ".".join(parts[:depth])
        specs = (finder.find_spec(full_name, path) for finder in sys.meta_path)
        spec = next(filter(None, specs), None)
        if spec is None or (spec.submodule_search_locations is None and depth < len(parts)):
            return False
        path = spec.submodule_search_locations
    return True


def module(name: str, models: Path | None = None) -> ModuleType:
    """Return the module of a handler; of a model that the site describes, that of the handler that reads by it.

    Raises: ConfigError if there is none, a package that it imports is missing, its import raises, or the description
    of a model is wrong.
    """
    if "." not in name:
        refuse_unknown(name, models)
    shipped_name = name if name in names() or "." in name else described.described(name, models).kind
    with boundary(name, "while its module was imported", ConfigError):
        return importlib.import_module(shipped_name if "." in name else f"ainode.handlers.{shipped_name}")


def lacking(name: str) -> tuple[str, ...]:
    """Return which packages a handler that ships lacks with the shipped weights; its module is imported.

    Raises: ConfigError if the module cannot be imported.
    """
    return _absent(getattr(module(name), "PACKAGES", ()))


def handler(name: str, environment: ModelEnvironment) -> Handler:
    """Return the handler of that name, or of that module (`my_package.my_handler`) for one of a site's own.

    The handler of a model that the site describes is built for the model: `build(environment, model)`.
    No network is loaded before it is asked to read.
    Raises: ConfigError if there is none, a package is missing, its module or build() raises, it is no Handler, or the
    description of a model is wrong.
    """
    handler_module = module(name, environment.models)
    is_own = "." in name or name in names()
    arguments = () if is_own else (described.described(name, environment.models),)
    with boundary(name, "in build()", ConfigError):
        built = handler_module.build(environment, *arguments)
        if not isinstance(built, Handler):
            raise ConfigError(f"handler {name!r}: build() returned no Handler (see node/domain/handler.py)")
        return built


def needs(name: str, handler: Handler) -> Needs:
    """Return what a handler needs before it can read a study.

    Raises: ConfigError if weights() raises, or returns anything but names.
    """
    with boundary(name, "in weights()", ConfigError):
        weights = handler.weights()
        if not isinstance(weights, tuple | list) or not all(isinstance(entry, str) for entry in weights):
            raise ConfigError(f"handler {name!r}: weights() returned no tuple of names (see node/domain/handler.py)")
        return Needs(tuple(map(str, weights)), _missing_packages(name, handler))


def laboratory() -> ModuleType:
    """Return what trains and evaluates models, imported when first asked for (`models/training/experiment.py`)."""
    return importlib.import_module("ainode.models.training.experiment")


def drafting() -> ModuleType:
    """Return what drafts the description of a site's model, imported when first asked for."""
    return importlib.import_module("ainode.handlers.described.drafting")


def _missing_packages(name: str, handler: Handler) -> tuple[str, ...]:
    """Return which of the packages that a handler reads with are not installed.

    They are the `packages` of the handler of a model that the site describes, else the `PACKAGES` of its module.
    """
    packages: tuple[str, ...] | None = getattr(handler, "packages", None)
    if packages is None:
        packages = getattr(module(name), "PACKAGES", ())
    return _absent(packages)


def _absent(packages: Iterable[str]) -> tuple[str, ...]:
    return tuple(package for package in packages if importlib.util.find_spec(package) is None)
