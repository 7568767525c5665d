"""Handlers by name, imported when first asked for: the node knows no handler otherwise."""

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from ainode.node.domain import Handler
from ainode.node.errors import ConfigError
from ainode.node.reading.weights import ModelEnvironment


def names() -> tuple[str, ...]:
    """Return the name of every handler that is installed."""
    package = importlib.import_module("ainode.handlers")
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


def module(name: str) -> ModuleType:
    """Return the module of a handler.

    Raises: ConfigError if there is none, or a package that it imports is missing.
    """
    if "." not in name and name not in names():
        raise ConfigError(f"no handler is named {name!r} (there are: {', '.join(names()) or 'none'})")
    try:
        return importlib.import_module(name if "." in name else f"ainode.handlers.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(f"handler {name!r}: {error.name} is missing; {_remedy(name, error.name or '')}") from error


def _remedy(name: str, missing: str) -> str:
    """Return how the missing module of a handler is found: a site's handler, a package of it, or a package of ours."""
    if name == missing or name.startswith(f"{missing}."):
        return "put its folder on PYTHONPATH, or install it as a package; see handlers/README.md"
    return f"install the package that has {missing}" if "." in name else "pip install 'ainode[models,detect]'"


def handler(name: str, environment: ModelEnvironment) -> Handler:
    """Return the handler of that name, or of that module (`my_package.my_handler`) for one of a site's own.

    No network is loaded before it is asked to read.
    Raises: ConfigError if there is none, a package is missing, or it is no Handler.
    """
    built = module(name).build(environment)
    if not isinstance(built, Handler):
        raise ConfigError(f"handler {name!r}: build() returned no Handler (see node/domain/handler.py)")
    return built


def laboratory() -> ModuleType:
    """Return what trains and evaluates models, imported when first asked for (`models/training/experiment.py`)."""
    return importlib.import_module("ainode.models.training.experiment")


def missing_packages(name: str) -> tuple[str, ...]:
    """Return which of the packages that a handler reads with are not installed (its module's `PACKAGES`)."""
    packages: tuple[str, ...] = getattr(module(name), "PACKAGES", ())
    return tuple(package for package in packages if importlib.util.find_spec(package) is None)
