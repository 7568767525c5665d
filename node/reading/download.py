"""The download of weights."""

from pathlib import Path
from typing import Final

import requests

from ainode.node.errors import WeightsError

# Of each step: the connection, and every pause of the answer.
_TIMEOUT_S: Final = 60.0
_BLOCK_BYTES: Final = 1 << 20


def download(name: str, url: str, path: Path) -> None:
    """Write what an address answers to a file, block by block; the file is not compared with anything.

    Raises: WeightsError if the address does not answer; OSError if the disk refuses.
    """
    try:
        with requests.get(url, stream=True, timeout=_TIMEOUT_S) as answer, path.open("wb") as file:
            answer.raise_for_status()
            for block in answer.iter_content(_BLOCK_BYTES):
                file.write(block)
    # requests' errors are OSErrors, too
    except requests.HTTPError as error:
        code = error.response.status_code
        raise WeightsError(f"weights {name!r}: {url} answers HTTP {code}; look at the address") from error
    except requests.RequestException as error:
        raise WeightsError(f"weights {name!r}: {url} does not answer: {error}") from error
