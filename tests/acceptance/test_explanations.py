"""`ainode explain` of every real study: what is read, what is declined and why."""

from collections.abc import Mapping

import pytest
from support import shared

from ainode.node import settings
from ainode.node.deciding import router
from ainode.node.domain import OutOfScope
from ainode.node.offline import readings as offline
from ainode.node.offline.explanation_lines import explanation
from ainode.node.offline.inputs import dicom_studies
from ainode.node.reading import pipeline, registry
from ainode.node.reading.weights import environment

# Folder, and in it the study, to route and what its handler says; every other study matches no route. Of the encodings
# of a slice in transfer_syntaxes/ct_chest_all_syntaxes each instance counts once, which leaves too few.
EXPECTED: Mapping[str, Mapping[str, str]] = {
    "ct_abdomen/KiTS-00072": {"ct-tumor": "wrong-contrast-phase", "pancreas-ct": "wrong-contrast-phase"},
    "ct_chest_5mm_Lung_Dx-A0001": {"lung-nodule": "no-position", "ct-pneumonia": "reads", "ct-tumor": "not-searched"},
    "ct_chest_thin_R01-001": {"lung-nodule": "no-position", "ct-pneumonia": "reads", "ct-tumor": "not-searched"},
    "spine/drr_from_R01-001": {"spine-radiograph": "reads", "spine-angles": "reads"},
}


def test_every_real_study_is_explained_rightly() -> None:
    folder, configured = shared("data/dicom"), settings.load()
    found, _ = dicom_studies([folder], configured)
    said: dict[str, dict[str, str]] = {}
    for study in found:
        path = study.instances[0].path.relative_to(folder)
        for route in offline.routes_for(study, configured, None):
            handler = registry.handler(route.handler, environment(configured))
            answer = pipeline.selection_of(router.chosen(study, route), handler)
            code = answer.code if isinstance(answer, OutOfScope) else "reads"
            where = next((one for one in EXPECTED if str(path).startswith(one)), str(path))
            said.setdefault(where, {})[route.name] = code
    assert said == EXPECTED


@pytest.mark.parametrize("folder", [name for name in EXPECTED if "reads" in EXPECTED[name].values()])
def test_the_command_says_the_same(folder: str) -> None:
    lines = explanation(shared(f"data/dicom/{folder}"), settings.load())
    for route, code in EXPECTED[folder].items():
        handler = route.replace("-", "_")
        ending = "reads it" if code == "reads" else "declines"
        assert any(f"  {handler} {ending}" in line for line in lines)
