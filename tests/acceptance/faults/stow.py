"""A modality that sends by STOW-RS, and stops believing where the answer stops."""

from typing import Final

import requests
from acceptance.faults.installation import Installation
from acceptance.faults.sender import DIGITAL_X_RAY, EXPLICIT, Modality, SentStudy
from support.web_bench import MULTIPART, multipart

from ainode.node.domain import UID
from ainode.node.encoding.part10 import Origin, head
from ainode.node.web.tokens import Tokens

_REFERENCED, _INSTANCE = "00081199", "00081155"
_TIMEOUT_S: Final = 10.0


def keys(port: int) -> str:
    """Return the table of a node with a web interface."""
    return f"[web]\nenabled = true\nport = {port}"


class StowModality(Modality):
    """Sends a study in a request; what the answer lists as stored is acked."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(port)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": MULTIPART}

    def attempt(self, study: SentStudy) -> bool:
        """Send what is not acked of a study; return whether all of the study is acked."""
        acked, digests = self.acked[study.uid], study.digests
        files = [_file(uid, content) for uid, content in study.instances.items() if uid not in acked]
        address = f"http://127.0.0.1:{self.port}/dicom-web/studies"
        try:
            answer = requests.post(address, multipart(*files), headers=self._headers, timeout=_TIMEOUT_S)
            stored = answer.json().get(_REFERENCED, {}).get("Value", ())
        except (requests.RequestException, ValueError):
            return False
        for uid in (item[_INSTANCE]["Value"][0] for item in stored):
            acked[uid] = digests[uid]
        return len(acked) == len(study.instances)


def _file(uid: str, content: bytes) -> bytes:
    return head(Origin(UID(DIGITAL_X_RAY), UID(uid), UID(EXPLICIT), "MODALITY")) + content


def use_stow(installation: Installation, port: int) -> None:
    """Let the modality of an installation send by STOW-RS."""
    modality = StowModality(port, Tokens(installation.node.folder / "data").add("modality"))
    modality.keep_alive = installation.keep_alive
    installation.modality = modality
