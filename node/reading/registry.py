"""Handlers by name, imported when first asked for: the node knows no handler otherwise.

A node asks only in the process of a reader; a command may ask in its own process.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType

from ainode.node.domain import Handler, Needs
from ainode.node.errors import ConfigError
from ainode.node.reading.boundary import boundary
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.routes import Route


def names() -> tuple[str, ...]:
    """Return the name of every handler that is installed; no code of a handler runs."""
    spec = importlib.util.find_spec("ainode.handlers")
    folders = (spec and spec.submodule_search_locations) or ()
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders)))


def refuse_unknown(name: str) -> None:
    """Return if a handler of that name is installed; no code of the handler runs.

    Raises: ConfigError.
    """
    if not (_is_installed(name) if "." in name else name in names()):
        choices = ", ".join(names()) or "none"
        raise ConfigError(
            f"no handler is named {name!r}; give one of {choices}, or a module of your own, `package.module`"
        )


def refuse_route(name: str, routes: Iterable[Route]) -> None:
    """Return unless a handler is asked for by the name of a route, which is another than any handler's.

    Raises: ConfigError that names the handler of the route.
    """
    handlers = {route.name: route.handler for route in routes}
    if name in handlers and name not in names():
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


def module(name: str) -> ModuleType:
    """Return the module of a handler.

    Raises: ConfigError if there is none, a package that it imports is missing, or its import raises.
    """
    if "." not in name:
        refuse_unknown(name)
    with boundary(name, "while its module was imported", ConfigError):
        return importlib.import_module(name if "." in name else f"ainode.handlers.{name}")


def handler(name: str, environment: ModelEnvironment) -> Handler:
    """Return the handler of that name, or of that module (`my_package.my_handler`) for one of a site's own.

    No network is loaded before it is asked to read.
    Raises: ConfigError if there is none, a package is missing, its module or build() raises, or it is no Handler.
    """
    handler_module = module(name)
    with boundary(name, "in build()", ConfigError):
        built = handler_module.build(environment)
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
        return Needs(tuple(map(str, weights)), missing_packages(name))


def laboratory() -> ModuleType:
    """Return what trains and evaluates models, imported when first asked for (`models/training/experiment.py`)."""
    return importlib.import_module("ainode.models.training.experiment")


def missing_packages(name: str) -> tuple[str, ...]:
    """Return which of the packages that a handler reads with are not installed (its module's `PACKAGES`)."""
    packages: tuple[str, ...] = getattr(module(name), "PACKAGES", ())
    return tuple(package for package in packages if importlib.util.find_spec(package) is None)
