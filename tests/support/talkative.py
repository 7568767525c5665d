"""A handler that tells the patient's name wherever it can: in errors, prints, warnings and logs, by Image Type."""

import logging
import os
import sys
import threading
import warnings

from pydicom import dcmread

from ainode.node.domain import OutOfScope, Result, Selection, Study
from ainode.node.imaging.pixels import modality_values
from ainode.node.reading.weights import ModelEnvironment
from support.handler import Obedient, healthy


class Talkative(Obedient):
    """Reads by instruction."""

    def select(self, study: Study) -> Selection | OutOfScope:
        if _order(study.instances[0].text("ImageType")) == "DECLINE":
            return OutOfScope("this study asks to be declined", "declined")
        return Selection(study.study_instance_uid, study.series)

    def read(self, selection: Selection) -> Result | OutOfScope:
        instance = selection.instances[0]
        header = dcmread(instance.path, stop_before_pixels=True)
        words = f"{header.PatientName} {header.get('PatientID')} {header.get('StudyDescription')}"
        warnings.warn(f"invalid value {words}", UserWarning, stacklevel=1)
        logging.getLogger("a_library").error("%s", words)
        match _order(instance.text("ImageType")):
            case "SHOUT":
                _shout(words)
            case "RAISE":
                _raise(words)
            case "DECODE":
                words.encode("utf-16").decode("ascii")
            case "CRASH":
                os.write(2, words.encode())
                os.abort()
            case "PIXELS":
                modality_values(instance.path)
        return healthy(selection)


def _order(image_type: str) -> str:
    return image_type.rpartition("\\")[2]


def _raise(words: str) -> None:
    fault = ValueError(f"cannot read {words}")
    fault.add_note(words)
    raise fault from KeyError(words)


def _shout(words: str) -> None:
    sys.stdout.write(words)
    sys.stderr.write(words)
    os.write(1, words.encode())
    os.write(2, words.encode())
    thread = threading.Thread(target=_raise, args=(words,), name="shouting")
    thread.start()
    thread.join()


def build(environment: ModelEnvironment) -> Talkative:
    del environment
    return Talkative()
