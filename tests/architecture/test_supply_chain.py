"""What is said of the libraries' known holes stays true."""

import hashlib
import json
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STATEMENTS = json.loads((ROOT / "node" / "vex.cdx.json").read_text(encoding="utf-8"))
FLOORS = {"pydicom": "3.0.2", "monai": "1.6.1", "torch": "2.10"}
_BUNDLES = re.compile(r"monai\.bundle|from monai import bundle")


def requirements() -> dict[str, Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def test_no_release_with_a_known_hole_is_accepted() -> None:
    for name, floor in FLOORS.items():
        (specifier,) = requirements()[name].specifier
        assert (specifier.operator, Version(specifier.version)) == (">=", Version(floor))


def test_nothing_uses_monai_s_own_reader_of_bundles_which_runs_their_code() -> None:
    sources = [path for room in ("node", "handlers", "models") for path in (ROOT / room).rglob("*.py")]
    assert not [path for path in sources if _BUNDLES.search(path.read_text(encoding="utf-8"))]


def test_each_statement_is_of_a_library_that_the_project_requires() -> None:
    names = {component["bom-ref"]: component["name"] for component in STATEMENTS["components"]}
    for statement in STATEMENTS["vulnerabilities"]:
        assert {names[affected["ref"]] for affected in statement["affects"]} <= requirements().keys()


def test_what_is_open_stands_in_the_document_on_security() -> None:
    text = (ROOT / "node" / "SECURITY.md").read_text(encoding="utf-8")
    for statement in STATEMENTS["vulnerabilities"]:
        if statement["analysis"]["state"] == "exploitable":
            assert statement["id"] in text


def test_each_test_that_the_document_on_security_names_is_there() -> None:
    text = (ROOT / "node" / "SECURITY.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(\w[\w/]*\.py)`", text))
    assert len(names) > 20
    assert not [name for name in names if not list((ROOT / "tests").rglob(name))]


def test_each_script_of_others_is_the_one_that_was_fetched_and_has_its_licence() -> None:
    folder = ROOT / "node" / "console" / "static" / "vendor"
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    digests = {name: digest for digest, name in (line.split() for line in lines)}
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert files.pop("SHA256SUMS")
    assert files == digests
    assert {name.partition(".")[0] for name in files if name.endswith(".js")} == {
        name.partition(".")[0] for name in files if name.endswith(".LICENSE")
    }
