"""How the missing module of a handler is found."""

from pathlib import Path

import pytest

from ainode.node.errors import ConfigError
from ainode.node.reading import registry
from ainode.node.routes import Route


@pytest.mark.parametrize("name", ["absent_site.handler", "support.absent"])
def test_a_site_s_own_handler_that_is_not_found_is_looked_for_on_the_path(name: str) -> None:
    with pytest.raises(ConfigError, match=r"is missing; put its folder on PYTHONPATH.*handlers/README.md"):
        registry.module(name)


def test_a_package_that_a_site_s_handler_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacking_site").mkdir()
    (tmp_path / "lacking_site" / "handler.py").write_text("import absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="absent_package is missing; install the package that has absent_package"):
        registry.module("lacking_site.handler")


def test_whoever_gives_the_name_of_a_route_for_a_handler_is_told_the_handler() -> None:
    routes = (Route("pancreas-ct", "pancreas_tumor"), Route("skin_lesion", "skin_lesion"))
    with pytest.raises(ConfigError, match="pancreas-ct is a route; its handler is pancreas_tumor"):
        registry.refuse_route("pancreas-ct", routes)
    # A handler that shares its name with a route is a handler.
    registry.refuse_route("skin_lesion", routes)
