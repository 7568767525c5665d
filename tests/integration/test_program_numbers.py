"""Numbers of a program that are of a whole study: the report ties them to no image that the program did not name."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from support import judges
from support.programs import STUDY, Site, ct, environment_of, shell, write_program

from ainode.node import testing
from ainode.node.domain import UID, Result, SyntheticImage
from ainode.node.proving.checks import Outcome
from ainode.node.proving.prover import Prover
from ainode.node.proving.same_study import SameStudy
from ainode.node.proving.studies import Case
from ainode.node.reading import confinement
from ainode.node.reports import report_text
from ainode.node.settings import Settings

pytestmark = pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing()))

DIAMETER = 'echo \'{"measurements": {"diameter": %s}}\' > $out/result.json'
COUNTED = shell(DIAMETER.replace("%s", "'$(ls $in/*.dcm | wc -l)'"))
OF_FIRST_IMAGE = shell(DIAMETER.replace("%s", "'$(cksum < $in/00001.dcm | cut -c 1-6)'"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.close()


def numbers_of(content: bytes) -> list[Dataset]:
    """Return the numbers in the measurement groups of a report."""
    measurements = dcmread(BytesIO(content)).ContentSequence[-1]
    return [item for group in measurements.ContentSequence for item in group.ContentSequence if item.ValueType == "NUM"]


def images_of(item: Dataset) -> set[str]:
    """Return the images to which a content item refers."""
    return {str(element.value) for element in item.iterall() if element.keyword == "ReferencedSOPInstanceUID"}


@pytest.mark.parametrize(("program", "outcome"), [(COUNTED, Outcome.PASSED), (OF_FIRST_IMAGE, Outcome.FAILED)])
def test_a_turned_study_passes_if_the_program_gives_the_same_number(
    tmp_path: Path, program: str, outcome: Outcome
) -> None:
    """A turned stack begins at its other end, so that its first image is another one."""
    write_program(tmp_path / "models", program)
    case = Case(UID(testing.uid(STUDY)), tuple(testing.write([*ct()], tmp_path / "study", study=STUDY)))
    prover = Prover("tool", Settings(), environment_of(tmp_path))
    try:
        answer = prover.read(case.paths).answer
        assert isinstance(answer, Result)
        checks = [*SameStudy(case, prover, answer, tmp_path).turned()]
    finally:
        prover.end()
    applicable = [check for check in checks if check.outcome is not Outcome.NOT_APPLICABLE]
    assert len(applicable) > 2
    assert {check.outcome for check in applicable} == {outcome}


def test_a_number_that_names_no_image_rests_on_all_that_the_program_was_given(site: Site, tmp_path: Path) -> None:
    site.program(COUNTED)
    reading = site.read(*ct())
    result = reading.answer
    assert isinstance(result, Result)
    given = {ref.sop_instance_uid for ref in result.evidence}
    assert result.key_images == ()
    (number,) = numbers_of(reading.documents[-1].content)
    assert images_of(number) == given
    assert len(given) == 3
    assert "Diameter 3 mm" in report_text(result)
    path = tmp_path / "report.dcm"
    path.write_bytes(reading.documents[-1].content)
    assert judges.module_errors(path) == []
    assert judges.tree_errors(path) == []
    assert judges.template_errors(path) == []


def test_a_viewer_finds_coordinates_for_each_number_of_an_image_without_a_box(site: Site) -> None:
    """OHIF 3.13.2 opens no report with a group without coordinates."""
    finding = '{"class": "nodule", "probability": 0.9, "image": "00002.dcm"}'
    site.program(shell(f"echo '{{\"findings\": [{finding}]}}' > $out/result.json"))
    reading = site.read(*ct())
    assert isinstance(reading.answer, Result)
    (named,) = reading.answer.key_images
    numbers = numbers_of(reading.documents[-1].content)
    assert [images_of(number) for number in numbers] == [{named.sop_instance_uid}] * len(numbers)
    assert all(number.ContentSequence[0].ValueType == "SCOORD" for number in numbers)


def test_the_only_image_of_a_study_is_the_one_that_a_number_is_of(site: Site) -> None:
    site.program(COUNTED)
    image = SyntheticImage(64, 64, testing.noise(64, 64).pixels, {"Modality": "DX"})
    answer = site.read(image).answer
    assert isinstance(answer, Result)
    assert answer.key_images == answer.evidence
