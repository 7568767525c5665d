"""One module per DICOM object that leaves the node; strict on encoding.

A name is looked up at its first use. The node imports this room for the messages that it corrects, and what writes
DICOM objects and pages would take it a fifth of a second more at each start, and 26 MB.
"""

from importlib import import_module
from typing import Final

__all__ = ["documents", "documents_out_of_scope", "early_documents", "report_pdf", "report_text", "result_json"]

_MODULES: Final = {"report_pdf": "printed", "report_text": "text", "result_json": "text"}


def __getattr__(name: str) -> object:
    """Return a function of this room from its module."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function: object = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'compose')}"), name)
    return function
