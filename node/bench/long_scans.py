"""The peak memory of reading a long chest CT: each handler reads it in a process of its own, as the node's reader does.

`python -m ainode.node.bench.long_scans HANDLER FOLDER SITE CACHE` reads and prints megabytes and seconds.
"""

import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ainode.node import testing
from ainode.node.domain import Header, OutOfScope, SyntheticImage
from ainode.node.encoding import headers
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import ModelEnvironment, WeightStore

SLICES, SIDE = 600, 512
LIMIT_MB = 4000
_HANDLERS = ("ct_pneumonia", "ct_tumor")
_CANDIDATES = 5


def peak_lines(
    names: Sequence[str], models: ModelEnvironment, *, slices: int = SLICES, side: int = SIDE
) -> Iterator[str]:
    """Yield a line for each of the handlers that reads a whole chest: peak memory of its process, and seconds."""
    handlers = [name for name in _HANDLERS if name in names]
    if not handlers:
        return
    yield f"peak memory of a chest CT of {slices} slices of {side} x {side}, below {LIMIT_MB} MB"
    with tempfile.TemporaryDirectory() as folder:
        demonstration = registry.handler(handlers[0], models).demonstration(0).images
        testing.write(long_scan(demonstration, slices, side), Path(folder), study="memory")
        for name in handlers:
            yield f"  {name}: {_measured(name, Path(folder), models)}"


def long_scan(images: Sequence[SyntheticImage], slices: int, side: int) -> Iterator[SyntheticImage]:
    """Yield a scan of the same patient in more slices of more pixels: each shows the nearest slice and pixel.

    Slices that show the same lie a pixel further each, for no series is read whose slices are copies.
    """
    first, last = (np.asarray(images[at].header["ImagePositionPatient"], np.float64) for at in (0, -1))
    rows, columns = (np.arange(side) * count // side for count in (images[0].rows, images[0].columns))
    down, right = np.asarray(images[0].header["PixelSpacing"], np.float64)
    spacing = (float(down * images[0].rows / side), float(right * images[0].columns / side))
    for number in range(slices):
        shown = number * len(images) // slices
        image, first_number = images[shown], -(-shown * slices // len(images))
        x, y, z = first + (last - first) * number / (slices - 1)
        pixels = np.frombuffer(image.pixels, "<u2").reshape(image.rows, image.columns)[np.ix_(rows, columns)]
        pixels = np.roll(pixels, number - first_number, axis=1)
        header: Header = {
            **image.header,
            "PixelSpacing": spacing,
            "SliceThickness": float(np.linalg.norm(last - first)) / (slices - 1),
            "ImagePositionPatient": (round(float(x), 4), round(float(y), 4), round(float(z), 4)),
            "InstanceNumber": number + 1,
        }
        yield dataclasses.replace(image, rows=side, columns=side, pixels=pixels.tobytes(), header=header)


def _measured(name: str, folder: Path, models: ModelEnvironment) -> str:
    arguments = [name, folder, models.weights.site, models.cache]
    done = subprocess.run(  # noqa: S603  # this very program
        [sys.executable, "-m", __spec__.name, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or f"not measured: {done.stderr.strip().splitlines()[-1:]}"


def main() -> None:
    """Read a folder with a handler and print the peak memory of this process."""
    name, folder, site, cache = sys.argv[1:]
    models = ModelEnvironment(WeightStore(Path(site)), Path(cache))
    instances = (headers.instance(path, sha256="") for path in sorted(Path(folder).rglob("*.dcm")))
    study = dataclasses.replace(headers.study(instances), wanted_candidates=_CANDIDATES)
    start_s = time.perf_counter()
    answer = pipeline.answer_of(study, registry.handler(name, models))
    # Not getrusage: there the memory of whoever started this process counts, too.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    peak_mb = int(status["VmHWM"].split()[0]) / 1000
    outcome = answer.code if isinstance(answer, OutOfScope) else "read"
    print(f"{peak_mb:.0f} MB, {time.perf_counter() - start_s:.0f} s, {outcome}")  # noqa: T201  # the parent reads the line


if __name__ == "__main__":
    main()
