"""Builds the parts of a bundle: references followed, listed components built once each, as MONAI's parser does."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ainode.models.bundles import allowed, expressions
from ainode.models.bundles.config_files import joined
from ainode.models.bundles.tree import Tree

_REFERENCE: Final = re.compile(expressions.REFERENCE, re.ASCII)
_SPECIAL: Final = frozenset({"_target_", "_mode_", "_desc_", "_disabled_", "_requires_"})
_MAX_WAITING: Final = 100
# What MONAI's constructors raise on values that do not fit.
_BUILD_ERRORS: Final = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError),
)


class _Left:
    """Stands for a component that MONAI's runner has and the node replaces, or that the bundle disabled."""


_LEFT: Final = _Left()


@dataclass(slots=True)
class Resolver:
    """The built parts of one configuration, each by its path; `device` is where the networks run."""

    tree: Tree
    device: str
    _built: dict[str, Any] = field(default_factory=dict, repr=False)
    _waiting: list[str] = field(default_factory=list, repr=False)

    def part(self, path: str) -> Any:  # noqa: ANN401 - a network, an inferer, transforms
        """Return the built part at a path.

        Raises: BundleRefused, naming key and value: a reference in a circle or to nothing, an argument that is not
        taken, a component that MONAI cannot build.
        """
        if path in self._built:
            return self._built[path]
        if path in self._waiting or len(self._waiting) > _MAX_WAITING:
            circle = " -> ".join([*self._waiting[-5:], path])
            raise self.tree.refusal(path, "@" + path, f"references in a circle, or in a chain too long: {circle}")
        self._waiting.append(path)
        try:
            built = self._resolved(self.tree.at(path), path)
        finally:
            self._waiting.pop()
        self._built[path] = built
        return built

    def _resolved(self, node: Any, path: str) -> Any:  # noqa: ANN401
        match node:
            case dict() if "_target_" in node:
                return self._component(node, path)
            case dict():
                entries = ((key, self.part(joined(path, key))) for key in node)
                return {key: value for key, value in entries if value is not _LEFT}
            case list():
                values = (self.part(joined(path, number)) for number in range(len(node)))
                return [value for value in values if value is not _LEFT]
            case str() if _REFERENCE.fullmatch(node):
                return self._referred(node.removeprefix("@"), path)
            case str() if node.startswith(expressions.SIGN):
                return self._expressed(node, path)
            case _:
                return node

    def _referred(self, target: str, path: str) -> Any:  # noqa: ANN401
        target = target.replace("::", "#")
        if not self.tree.holds(target):
            raise self.tree.refusal(path, "@" + target, "nothing stands there")
        value = self.part(target)
        if value is _LEFT:
            raise self.tree.refusal(path, "@" + target, "is of MONAI's own runner, or disabled, and not built here")
        return value

    def _expressed(self, text: str, path: str) -> Any:  # noqa: ANN401
        try:
            return expressions.plain_value(text, lambda target: self._referred(target, path), self.device)
        except expressions.UnknownForm as error:
            if expressions.belongs_to_runner(text):
                return _LEFT
            raise self.tree.refusal(path, text, f"an expression that is not taken: {error}") from error

    def _component(self, node: dict[str, Any], path: str) -> Any:  # noqa: ANN401
        if self._is_disabled(node, path):
            return _LEFT
        target = str(node["_target_"])
        if "_requires_" in node:
            self.part(joined(path, "_requires_"))
        keys = [key for key in node if key not in _SPECIAL]
        arguments = {key: self.part(joined(path, key)) for key in keys}
        arguments = {key: value for key, value in arguments.items() if value is not _LEFT}
        if allowed.is_compose(target):
            return self._compose(arguments, path)
        if target in allowed.RUNNER or allowed.saves_image(target):
            return _LEFT
        if allowed.loads_image(target):
            return self._present_image(target, arguments, path)
        component = allowed.component(target)
        if component is None:
            raise self.tree.refusal(joined(path, "_target_"), target, "not on the list of components that are run")
        return self._built_component(component, arguments, path)

    def _built_component(self, component: allowed.Component, arguments: dict[str, Any], path: str) -> Any:  # noqa: ANN401
        if problem := component.problem(arguments):
            key, reason = problem
            raise self.tree.refusal(
                joined(path, key), arguments.get(key), f"{component.name} does not take it: {reason}"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # MONAI's on its own defaults, which nobody here can change
                return component.built(arguments)
        except _BUILD_ERRORS as error:
            reason = f"MONAI {allowed.version()} cannot build it: {type(error).__name__}: {error}"
            raise self.tree.refusal(path, self.tree.at(path), reason) from error

    def _is_disabled(self, node: dict[str, Any], path: str) -> bool:
        value = self.part(joined(path, "_disabled_")) if "_disabled_" in node else False
        return value.lower().strip() == "true" if isinstance(value, str) else bool(value)

    def _compose(self, arguments: dict[str, Any], path: str) -> Any:  # noqa: ANN401
        """Return MONAI's row of transforms."""
        from monai.transforms.compose import Compose  # noqa: PLC0415 - slow to import, and a review needs none

        transforms = arguments.get("transforms", [])
        if unknown := set(arguments) - {"transforms", "lazy", "map_items", "unpack_items"}:
            key = min(unknown)
            raise self.tree.refusal(joined(path, key), arguments[key], "Compose takes transforms alone")
        if not isinstance(transforms, Sequence) or not all(callable(transform) for transform in transforms):
            raise self.tree.refusal(joined(path, "transforms"), transforms, "not a list of transforms")
        return Compose(list(transforms), **{key: value for key, value in arguments.items() if key != "transforms"})

    def _present_image(self, target: str, arguments: dict[str, Any], path: str) -> Any:  # noqa: ANN401
        """Return what stands for the loading of a file: the image is there, and may need its axis of channels."""
        from ainode.models.bundles.loading import present_image  # noqa: PLC0415 - it imports MONAI

        try:
            return present_image(target, arguments)
        except ValueError as error:
            raise self.tree.refusal(path, self.tree.at(path), str(error)) from error
