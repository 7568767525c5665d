"""How the requests with files are described: the fields of their forms, and examples for a shell and for Python."""

from collections.abc import Mapping
from typing import Any, Final

_NODE: Final = "NODE"
"""where an example has the address of the node"""

READ_CURL: Final = """curl -H "Authorization: Bearer $TOKEN" -F files=@ct-2025.zip -F files_2=@ct-2026.zip \\
  -F model=lung_nodule -F point_2=-95.7,-145,-66.1 NODE/api/read"""
READ_PYTHON: Final = """import time, requests
node, headers = "NODE", {"Authorization": f"Bearer {token}"}
files = [("files", open("thorax.nrrd", "rb"))]
fields = {"model": "lung_nodule", "point": "120,88,41", "point_is": "index"}
trial = requests.post(f"{node}/api/read", headers=headers, files=files, data=fields).json()
while trial["stage"] not in ("done", "failed"):
    time.sleep(1)
    trial = requests.get(f"{node}/api/read/{trial['id']}", headers=headers).json()
print(trial["error"] or [reading["answer"] for reading in trial["readings"]])"""
DOCUMENT_CURL: Final = """curl -H "Authorization: Bearer $TOKEN" -O NODE/api/read/$ID/documents/1/report.pdf"""
UPLOAD_CURL: Final = """curl -H "Authorization: Bearer $TOKEN" -F file=@spine.dcm NODE/upload"""
UPLOAD_PYTHON: Final = """import requests
answer = requests.post("NODE/upload", headers={"Authorization": f"Bearer {token}"},
                       files={"file": open("spine.dcm", "rb")}).json()
print(answer["diagnosis"], answer["confidence"], answer["detections"])"""


def _field(description: str, *, is_file: bool = False) -> dict[str, object]:
    return {"type": "string", **({"format": "binary"} if is_file else {}), "description": description}


READ_FIELDS: Final = {
    "files": {"type": "array", "items": _field("a file", is_file=True), "description": "of the only or oldest date"},
    "files_2": {"type": "array", "items": _field("a file", is_file=True), "description": "of the next date"},
    "files_3": {"type": "array", "items": _field("a file", is_file=True), "description": "of the newest date"},
    "model": _field("name of a handler; left out: the routes decide"),
    "point": _field("x,y,z of a lesion in the files of `files`; any point may be missing"),
    "point_2": _field("x,y,z of a lesion in the files of `files_2`"),
    "point_3": _field("x,y,z of a lesion in the files of `files_3`"),
    "point_is": {"enum": ["mm", "index"], "default": "mm", "description": "LPS mm, or voxel i,j,k from 0"},
    "body_part": _field("Body Part Examined of files that are not DICOM, such as CHEST"),
}
UPLOAD_FIELDS: Final = {"file": _field("one DICOM radiograph (CR, DX); POST /api/read takes pictures", is_file=True)}


def described(fields: Mapping[str, object], curl: str, python: str, *, node: str) -> dict[str, Any]:
    """Return the OpenAPI description of a form, with its examples."""
    schema = {"type": "object", "properties": fields}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        **samples(curl, python, node=node),
    }


def samples(curl: str, python: str = "", *, node: str) -> dict[str, Any]:
    """Return the OpenAPI extension that holds examples, which call the node at an address."""
    sources = [{"lang": "Shell", "label": "curl", "source": curl}]
    if python:
        sources.append({"lang": "Python", "label": "Python", "source": python})
    address = node.rstrip("/")
    return {"x-codeSamples": [{**source, "source": source["source"].replace(_NODE, address)} for source in sources]}
