"""Are the images of one study images of one patient? Pure."""

from collections.abc import Iterable
from datetime import date

from ainode.node.domain import Instance
from ainode.node.identity import is_ours

TWO_PATIENTS = "two-patients"
"""The code of a study that is read by nobody, since nobody can say whose report it would be."""


def patient_contradiction(instances: Iterable[Instance]) -> str:
    """Return which attribute says that the instances are of several patients, '' if the instances agree.

    Values are compared where they are stated, and never named. Documents of this node do not count: they name the
    patient that their images had when the documents were made.
    """
    patients = {instance.patient for instance in instances if not is_ours(instance)}
    stated_values = {
        "Patient ID (0010,0020)": {patient.patient_id for patient in patients},
        "Issuer of Patient ID (0010,0021)": {patient.issuer for patient in patients},
        "Issuer of Patient ID Qualifiers (0010,0024)": {patient.universal_issuer for patient in patients},
        "Patient's Birth Date (0010,0030)": {_date(patient.birth_date) for patient in patients},
    }
    for attribute, values in stated_values.items():
        if len(values - {""}) > 1:
            return (
                f"the images of this study have {len(values - {''})} different values of {attribute}: they are not of "
                "one patient; correct the study in the archive and send it again"
            )
    return ""


def _date(text: str) -> str:
    """Return a date in one form, '' for what is no date: zeros, a year alone. Old images have dots (PS3.5 6.2)."""
    digits = text.replace(".", "")
    try:
        return date.fromisoformat(f"{digits[:4]}-{digits[4:6]}-{digits[6:]}").isoformat()
    except ValueError:
        return ""
