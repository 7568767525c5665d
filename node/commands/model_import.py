"""`ainode model import`: a MONAI bundle becomes a model of the site's own, with a description to complete."""

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final

import typer

from ainode.node.errors import ConfigError
from ainode.node.terminal import Config, Replace, plain_path, settings_of

_TODO: Final = "TODO: "
"""begins a value that a person must write; the node refuses the description until then"""
_PARTS: Final = "such as ABDOMEN; remove the line for any part"
_MODALITIES: Final = {"MRI": "MR", "MR": "MR", "CT": "CT", "PET": "PT", "PT": "PT"}
# PS3.16 8.1: a coding scheme of one's own begins with 99; SH has 16 characters, LO (Code Meaning) 64.
_SCHEME: Final = re.compile(r"99[A-Z0-9_]{1,14}")
_LONGEST_MEANING: Final = 64
_LETTERS: Final = ("LR", "PA", "SI")
_LESION: Final = re.compile("tumou?r|lesion|nodule|cancer|carcinoma|metasta|neoplasm", re.IGNORECASE)


def model_import(  # noqa: PLR0913, PLR0917 - a command has as many options as a person may want
    bundle: Annotated[
        Path,
        typer.Argument(
            exists=True, readable=True, callback=plain_path, help="a MONAI bundle: its ZIP file or its folder"
        ),
    ],
    name: Annotated[str, typer.Option(help="the name of the model: small letters, digits, underscores")],
    weights: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            callback=plain_path,
            help="safetensors or TorchScript instead of the bundle's",
        ),
    ] = None,
    orientation: Annotated[
        str, typer.Option(help="to which sides x, y and z of the bundle's images run, such as RAS, if it turns none")
    ] = "",
    licence: Annotated[str, typer.Option(help="the license of the weights, if the bundle names none")] = "",
    trained_on: Annotated[str, typer.Option(help="what the weights have seen, if the bundle does not say it")] = "",
    scheme: Annotated[
        str, typer.Option(help="a coding scheme of your own, such as 99ORGANS, for classes that are no SNOMED CT term")
    ] = "",
    body_part: Annotated[
        str,
        typer.Option(help="which parts of the body it reads, such as ABDOMEN or CHEST,ABDOMEN; any: whatever comes"),
    ] = "",
    *,
    replace: Replace = False,
    config: Config = None,
) -> None:
    """Take a MONAI bundle in; nothing of it runs, and what is not run here is refused by its key and value."""
    from ainode.node.commands.recording import record_change  # noqa: PLC0415
    from ainode.node.commands.site_models import new_folder, next_lines, refuse_taken  # noqa: PLC0415
    from ainode.node.disk import sha256_of  # noqa: PLC0415
    from ainode.node.reading import described  # noqa: PLC0415

    settings = settings_of(config)
    refuse_taken(settings, name, replaces=replace)
    errors = importlib.import_module("ainode.models.errors")
    with new_folder(settings, name) as folder:
        intake = _imported(_importing(), errors, (bundle, folder, weights))
        description = intake.description
        axes = _axes(description, orientation.upper())
        files = [(path, sha256_of(folder / path)) for path in (intake.weights, *intake.companions)]
        answers = {
            "licence": licence,
            "trained_on": trained_on,
            "body_part": body_part,
            "orientation": axes,
            "scheme": _own_scheme(scheme),
        }
        text = "\n".join(_lines(description, files, answers)) + "\n"
        (folder / described.DESCRIPTION).write_text(text, "utf-8")
    record_change(settings, f"model:{name}", "imported", {"sha256": files[0][1]})
    notes = [f"left out, and not read: {', '.join(map(str, intake.left_out))}"] if intake.left_out else []
    questions = (f"to be written: {line.strip()}" for line in text.splitlines() if f'"{_TODO}' in line)
    for line in next_lines(settings, name, questions, config, notes):
        print(line)  # noqa: T201 - a command's answer


def _importing() -> ModuleType:
    """Return what takes bundles in (`models/bundles`), imported when first asked for.

    Raises: ConfigError if a package is missing.
    """
    try:
        return importlib.import_module("ainode.models.bundles.importing")
    except ModuleNotFoundError as error:
        installation = importlib.import_module("ainode.models.errors").installation("models")
        raise ConfigError(f"{error.name} is missing, which reads bundles; {installation}") from error


def _imported(importing: ModuleType, errors: ModuleType, arguments: tuple[Path, Path, Path | None]) -> Any:  # noqa: ANN401
    try:
        return importing.imported(*arguments)
    except errors.ModelError as error:
        raise ConfigError(str(error)) from error


def _axes(description: Any, orientation: str) -> str:  # noqa: ANN401
    """Return how the axes of a volume lie that the bundle takes; empty if it turns the volume itself.

    Raises: ConfigError.
    """
    if description.is_turning:
        if orientation:
            raise ConfigError("the bundle turns its image itself (Orientationd); leave --orientation out")
        return ""
    sides = [next((n for n, pair in enumerate(_LETTERS) if letter in pair), -1) for letter in orientation]
    if sorted(sides) != [0, 1, 2]:
        raise ConfigError(
            "the bundle does not turn its image (no Orientationd): say by --orientation to which sides x, y and z of "
            "the images run that it was trained on, such as RAS, LPS or LAS"
        )
    return orientation


def _lines(description: Any, files: list[tuple[Path, str]], answers: dict[str, str]) -> Iterator[str]:  # noqa: ANN401
    """Yield the lines of a model.toml."""
    questions = "TODO: what the bundle does not say"
    yield "# Written by `ainode model import`; handlers/README.md says what each key means."
    yield f"handler = {_quoted(description.kind)}"
    yield f"title = {_quoted(description.title or questions)}"
    yield f"version = {_quoted(description.version or questions)}"
    yield f"licence = {_quoted(answers['licence'] or description.licence or questions)}"
    yield f"trained_on = {_quoted(answers['trained_on'] or description.trained_on or questions)}"
    not_for = f"other uses than the bundle's: {description.intended_use}" if description.intended_use else ""
    yield f"not_for = [{_quoted(not_for) if not_for else ''}]  # every report says it"
    (path, digest), *companions = files
    yield from ("", "[file]", f"path = {_quoted(str(path))}", f"sha256 = {_quoted(digest)}", 'format = "bundle"')
    for path, digest in companions:
        yield from ("", "[[file.companions]]", f"path = {_quoted(str(path))}", f"sha256 = {_quoted(digest)}")
    modality = _MODALITIES.get(description.modality, f"{_TODO}such as CT or MR")
    yield from ("", "[takes]", f"modality = [{_quoted(modality)}]", _body_part_line(answers["body_part"]))
    if modality == "PT":
        yield f"units = {_quoted(f'{_TODO}what its values count, by Units (0054,1001): GML, BQML')}"
        yield '# suv = "BW"                    # of GML: by what uptake is normalized, by SUV Type (0054,1006)'
    yield "# max_spacing_mm = 5              # between slices; without it slices of any distance are read"
    yield from ("", "[input]", "dimensions = 3")
    if answers["orientation"]:
        yield f"orientation = {_quoted(answers['orientation'])}  # of x, y, z of the images that it was trained on"
    yield from _output_lines(description, answers["scheme"])


def _body_part_line(answer: str) -> str:
    """Return the line of the parts that are read; a network marks a liver in a chest, too, unless a part is named."""
    parts = [part.strip().upper() for part in answer.split(",") if part.strip()]
    if parts == ["ANY"]:
        return '# body_part = ["ABDOMEN"]       # without it whatever comes is read'
    return f"body_part = [{', '.join(map(_quoted, parts or [_TODO + _PARTS]))}]"


def _output_lines(description: Any, scheme: str) -> Iterator[str]:  # noqa: ANN401
    """Yield the lines of what the answer means."""
    segments = description.kind == "segment"
    yield from ("", "[output]", *(['masks = "labels"'] if segments else ['activation = "none"', "saliency = false"]))
    if not segments:
        yield f'site = [{_quoted(_TODO + "the code of the body part")}, "SCT", ""]'
    for channel in description.channels:
        yield from ("", f"[[output.{'segments' if segments else 'classes'}]]", f"name = {_quoted(channel.name)}")
        if segments:
            yield f"value = {channel.number if description.exclusive else 1}"
            category = "abnormal" if _LESION.search(channel.name) else "anatomy"
            yield f'category = "{category}"  # anatomy; or abnormal: a lesion, marked as a candidate'
        else:
            yield f"threshold = {_quoted(_TODO + 'above it the finding is present; no line: nothing is said of it')}"
        yield f"code = [{', '.join(map(_quoted, _code(channel, scheme)))}]"


def _own_scheme(scheme: str) -> str:
    """Return a site's coding scheme.

    Raises: ConfigError.
    """
    if scheme and not _SCHEME.fullmatch(scheme):
        raise ConfigError(f"--scheme {scheme}: 99, then capital letters, digits and underscores, 16 characters at most")
    return scheme


def _code(channel: Any, scheme: str) -> tuple[str, str, str]:  # noqa: ANN401
    """Return the SNOMED CT code of the very name of a class; else that of the site, or what a person must write.

    The code in the site's own scheme is the number of the network's channel.
    """
    from pydicom.sr.codedict import codes  # noqa: PLC0415 - a second to import

    name = channel.name
    keyword = "".join(word[:1].upper() + word[1:].lower() for word in name.replace("_", " ").replace("-", " ").split())
    code = getattr(codes.SCT, keyword, None) if keyword.isidentifier() else None
    if code is None or code.meaning.lower() != name.replace("_", " ").lower():
        meaning = name[:_LONGEST_MEANING]
        return (str(channel.number), scheme, meaning) if scheme else (f"{_TODO}the code", "SCT", meaning)
    return code.value, code.scheme_designator, code.meaning


def _quoted(text: str) -> str:
    """Return a text as TOML writes it."""
    return json.dumps(text, ensure_ascii=False)
