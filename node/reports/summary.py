"""The summary of a study as pixels: every verdict below a small grid of the captures."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ainode.node.domain import Capture, Finding, Presence, Result
from ainode.node.reports.drawing import Picture
from ainode.node.reports.labels import BACKGROUND, Font, ascii_text, font_of
from ainode.node.reports.words import (
    GRAY,
    WHITE,
    Line,
    legend_lines,
    limit_lines,
    outline_line,
    small_font,
    verdict_lines,
    with_words,
)

MAX_PICTURES = 6
_MAX_VERDICTS = 6
_FONT_SIZE = 20
_GAP = 8
# of a picture in the grid, in pixels; a single row may be higher
_MAX_WIDTH, _MAX_HEIGHT, _MAX_HEIGHT_OF_ROW = 560, 560, 900
_ORDER = (Presence.PRESENT, Presence.INDETERMINATE, Presence.ABSENT)


def shown_captures(captures: Sequence[Capture]) -> tuple[int, ...]:
    """Return the indexes of the captures that the summary shows: those of the strongest verdicts, in their order."""
    strongest_first = sorted(range(len(captures)), key=lambda index: _strength(captures[index].subject))
    return tuple(sorted(strongest_first[:MAX_PICTURES]))


def summary_picture(result: Result, pictures: Sequence[tuple[int, Capture, Picture]], *, date: str) -> Picture:
    """Return the summary of a result; a picture has the number of its capture in the series.

    Shapes: each picture and the summary (rows, columns, 3), RGB.
    """
    font = font_of(_FONT_SIZE)
    grid = _grid(pictures, small_font(font))
    return np.asarray(with_words(grid, _lines(result, [capture for _, capture, _ in pictures], font, date=date)))


def _strength(finding: Finding | None) -> int:
    """Return the place of a finding in the order of verdicts; a finding without a verdict comes last."""
    return _ORDER.index(finding.presence) if finding and finding.presence else len(_ORDER)


def _grid(pictures: Sequence[tuple[int, Capture, Picture]], font: Font) -> Image.Image:
    """Return the pictures in rows of equal cells, each below its number and title."""
    columns = len(pictures) if len(pictures) <= 3 else (len(pictures) + 1) // 2  # noqa: PLR2004 - a row, or two rows
    rows = -(-len(pictures) // columns)
    height = _MAX_HEIGHT if rows > 1 else _MAX_HEIGHT_OF_ROW
    tiles = [_fitting(Image.fromarray(picture), height) for _, _, picture in pictures]
    title_height = round(2 * font.size)
    cell = max(tile.width for tile in tiles) + _GAP, max(tile.height for tile in tiles) + title_height + _GAP
    grid = Image.new("RGB", (columns * cell[0] - _GAP, rows * cell[1] - _GAP), BACKGROUND)
    canvas = ImageDraw.Draw(grid)
    for index, (tile, (number, capture, _)) in enumerate(zip(tiles, pictures, strict=True)):
        left, top = index % columns * cell[0], index // columns * cell[1]
        title = ascii_text(f"{number}: {capture.title}")
        canvas.text((left + font.size / 2, top + title_height / 2), title, font=font, fill=WHITE, anchor="lm")
        grid.paste(tile, (left, top + title_height))
    return grid


def _fitting(picture: Image.Image, max_height: int) -> Image.Image:
    """Return the picture in the size of a cell; a smaller picture stays as it is."""
    scale = min(1.0, _MAX_WIDTH / picture.width, max_height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _lines(result: Result, captures: Sequence[Capture], font: Font, *, date: str) -> list[Line]:
    """Return the words below the grid: the verdicts, the strongest first, the study's date, model and limits."""
    small = small_font(font)
    judged = sorted((finding for finding in result.findings if finding.presence), key=_strength)
    lines = [line for finding in judged[:_MAX_VERDICTS] for line in verdict_lines(finding, font)]
    if len(judged) > _MAX_VERDICTS:
        lines.append(Line(f"{len(judged) - _MAX_VERDICTS} more findings in the report", WHITE, font))
    if result.segmented and any(segment.finding for segment in result.segmented.segments):
        lines.append(outline_line(small))
    lines += dict.fromkeys(line for capture in captures for line in legend_lines(capture, small))
    pictures = f"{len(captures)} of {len(result.captures)} pictures, numbered as in this series"
    model = f"{result.algorithm.name} {result.algorithm.version}"
    study = [f"study of {date}"] if date else []
    lines.append(Line(" - ".join([result.title, *study, pictures, model]), GRAY, small))
    return [*lines, *limit_lines(result.algorithm, font)]
