"""Are the images of one study images of one patient? Pure."""

import re
from collections.abc import Collection, Iterable
from datetime import date
from itertools import combinations

from ainode.node.domain import Instance, Patient
from ainode.node.identity import is_ours
from ainode.node.imaging.free_text import unaccented

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
        "Patient's Sex (0010,0040)": {patient.sex.upper() for patient in patients} & {"M", "F"},
    }
    for attribute, values in stated_values.items():
        if len(values - {""}) > 1:
            return (
                f"the images of this study have {len(values - {''})} different values of {attribute}: they are not of "
                "one patient; correct the study in the archive and send it again"
            )
    return _name_contradiction(patients)


def patient_notes(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Return a sentence for each thing that leaves a doubt whose the instances are, and contradicts nothing.

    Values are never named. A name may have been corrected, and a patient may have got an ID.
    """
    patients = [instance.patient for instance in instances if not is_ours(instance)]
    without_id = sum(not patient.patient_id for patient in patients)
    notes = []
    if 0 < without_id < len(patients):
        notes.append(
            f"{without_id} of {len(patients)} objects of this study have no Patient ID (0010,0020), which the others "
            "have: no identifier says that all are of one patient."
        )
    if _have_other_names(patients):
        notes.append(
            "Values of Patient's Name (0010,0010) in this study have no word in common: a name was corrected, or "
            "images are of another patient."
        )
    return tuple(notes)


def _name_contradiction(patients: Collection[Patient]) -> str:
    """Return that two names have no word in common where no Patient ID says that both are of one patient."""
    if all(patient.patient_id for patient in patients) or not _have_other_names(patients):
        return ""
    return (
        "an image of this study has no Patient ID (0010,0020), and values of Patient's Name (0010,0010) have no word "
        "in common: they may not be of one patient; correct the study in the archive and send it again"
    )


def _have_other_names(patients: Iterable[Patient]) -> bool:
    """Return whether two names have no word in common.

    A marriage, a correction or another order of words leaves a word. Names of other letters cannot be compared.
    """
    names = {words for patient in patients if (words := _latin_words(patient.name))}
    return any(first.isdisjoint(second) for first, second in combinations(names, 2))


def _latin_words(name: str) -> frozenset[str]:
    """Return the words of the alphabetic group of a name (PS3.5 6.2.1); none where a letter is not Latin."""
    text = unaccented(name.partition("=")[0])
    if not text.isascii():
        return frozenset()
    return frozenset(re.findall(r"[a-z0-9]+", text))


def _date(text: str) -> str:
    """Return a date in one form, '' for what is no date: zeros, a year alone. Old images have dots (PS3.5 6.2)."""
    digits = text.replace(".", "")
    try:
        return date.fromisoformat(f"{digits[:4]}-{digits[4:6]}-{digits[6:]}").isoformat()
    except ValueError:
        return ""
