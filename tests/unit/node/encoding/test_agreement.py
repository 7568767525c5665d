"""The four readers of an encoded data set say the same of the same bytes."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from support.datasets import REF, SYNTAXES, Encoded, encoded, instances, mutated

from ainode.node.domain import InstanceRef
from ainode.node.encoding import headers
from ainode.node.encoding.dataset_scan import identity
from ainode.node.encoding.part10 import parse
from ainode.node.encoding.same_content import same_data_set
from ainode.node.errors import CannotUnderstand

quick = settings(
    max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
COMPARABLE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)


def saved(folder: Path, name: str, subject: Encoded) -> Path:
    path = folder / name
    path.write_bytes(subject.file)
    return path


def scanned(subject: Encoded) -> InstanceRef | str:
    """Return what reception says: whose it is, or the refusal."""
    origin, start = parse(subject.file)
    assert (origin.transfer_syntax_uid, start) == (subject.syntax, len(subject.meta))
    try:
        return identity(subject.file, subject.syntax, start=start)
    except CannotUnderstand as refusal:
        return str(refusal)


@quick
@given(dataset=instances(), syntax=st.sampled_from(SYNTAXES))
def test_all_four_read_what_pydicom_writes(tmp_path: Path, dataset: Dataset, syntax: str) -> None:
    subject = encoded(dataset, syntax)
    path = saved(tmp_path, "subject", subject)
    assert scanned(subject) == headers.instance(path, sha256="").ref == REF
    assert same_data_set(path, path) == (syntax in COMPARABLE)


@quick
@given(dataset=instances())
def test_the_same_data_set_in_two_encodings_is_the_same_content(tmp_path: Path, dataset: Dataset) -> None:
    paths = [saved(tmp_path, syntax, encoded(dataset, syntax)) for syntax in COMPARABLE]
    assert same_data_set(*paths)


@quick
@given(data=st.data(), syntax=st.sampled_from(SYNTAXES))
def test_what_reception_takes_of_damaged_bytes_no_other_reader_sees_otherwise(
    tmp_path: Path, data: st.DataObject, syntax: str
) -> None:
    whole = encoded(data.draw(instances()), syntax)
    subject = Encoded(syntax, data.draw(mutated(whole.content)))
    if not subject.content:
        return
    path = saved(tmp_path, "subject", subject)
    ref = scanned(subject)
    if isinstance(ref, InstanceRef):
        assert headers.instance(path, sha256="").ref == ref
    elif "UID" not in ref:  # what walks to its end may still name no instance
        assert not same_data_set(path, path)
