import contextlib
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from queue import Queue

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from support import Orthanc, Storescp, a_file, free_port, instance_ref, orthanc, run, shared, storescp
from support.certificates import authority, fingerprint, issued
from support.entities import served
from support.node import configured, running
from support.servers import dcmqrscp
from support.studies import written

from ainode.node import tls
from ainode.node.archive.commitment import Commitment, SopReference, report_commitment, request_commitment
from ainode.node.archive.dimse import Link, connection_of, echo, error_type
from ainode.node.archive.query import confirm_by_query, expected_count
from ainode.node.archive.retrieve import DimseArchive, MoveTarget
from ainode.node.archive.search import Deadline, SeriesEntry
from ainode.node.archive.store import Outgoing, SendOutcome, send
from ainode.node.certificates import identity
from ainode.node.domain import UID, DeliveryState
from ainode.node.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnreachable,
    CannotUnderstand,
    DatabaseUnavailable,
    NotSent,
)
from ainode.node.identity import MANUFACTURER
from ainode.node.settings import Peer

COMMITMENT = "1.2.840.10008.1.20.1"
STUDY_ROOT_FIND, STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"

ONLY_CT = """
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
[[PresentationContexts]]
[OnlyCT]
PresentationContext1 = CTImageStorage\\Uncompressed
[[Profiles]]
[Default]
PresentationContexts = OnlyCT
"""


def link(peer: Peer, timeout_s: float = 60.0) -> Link:
    return Link(peer, "AINODE", timeout_s)


def data_set(file: Path | bytes) -> bytes:
    content = file.read_bytes() if isinstance(file, Path) else file
    return content[Outgoing.of(content).offset :]


def arrived(server: Storescp) -> dict[str, Path]:
    return {Outgoing.of(path).sop_instance_uid: path for path in server.files()}


def reference(content: bytes) -> SopReference:
    one = Outgoing.of(content)
    return SopReference(one.sop_class_uid, one.sop_instance_uid)


@contextmanager
def scp(
    *handlers: tuple[evt.EventType, Callable[[evt.Event], object]],
    port: int | None = None,
    known: Sequence[str] = (),
    services: Sequence[str] = (),
) -> Iterator[Peer]:
    """Run a peer that takes every storage SOP class in every syntax, and storage commitment in both roles."""
    entity = AE("SCP")
    entity.require_calling_aet = list(known)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    for service in services:
        entity.add_supported_context(service)
    entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    with served(entity, *handlers, port=port or 0) as server_port:
        yield Peer(name="scp", ae_title="SCP", host="127.0.0.1", port=server_port)


@contextmanager
def answering(*statuses: int | None) -> Iterator[Peer]:
    """Run a peer that answers the C-STORE requests with these statuses in turn; None is an abort."""
    remaining = iter(statuses)

    def answer(event: evt.Event) -> int:
        status = next(remaining)
        if status is None:
            event.assoc.abort()
        return status or 0x0000

    with scp((evt.EVT_C_STORE, answer)) as peer:
        yield peer


def kinds(sent: Sequence[SendOutcome]) -> list[type[ArchiveError] | None]:
    return [type(one.error) if one.error else None for one in sent]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0x0000, None),
        (0xB000, None),
        (0xB006, None),
        (0x0111, None),
        (0xA700, ArchiveUnreachable),
        (0xA7FF, ArchiveUnreachable),
        (0x0110, ArchiveUnreachable),
        (0x0122, ArchiveRefused),
        (0xA900, ArchiveRefused),
        (0xC000, ArchiveRefused),
        (0x0124, ArchiveRefused),
    ],
)
def test_each_status_says_whether_to_try_again(status: int, error: type[ArchiveError] | None) -> None:
    assert error_type(status) is error


def test_what_arrives_is_what_was_sent_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(a_file(rows=512))
    contents: list[Path | bytes] = [
        path,
        a_file(),
        a_file(transfer_syntax_uid=ImplicitVRLittleEndian),
        a_file(transfer_syntax_uid=DeflatedExplicitVRLittleEndian, sop_class_uid=ComputedRadiographyImageStorage),
    ]
    documents = [Outgoing.of(content) for content in contents]
    with storescp(tmp_path, "+xd") as server:
        sent = send(link(server.peer), documents[:3])
        deflated = send(link(server.peer), documents[3:])
        files = arrived(server)
    assert [one.status for one in sent + deflated] == [0, 0, 0, 0]
    for document, content in zip(documents, contents, strict=True):
        assert data_set(files[document.sop_instance_uid]) == data_set(content)
        assert Outgoing.of(files[document.sop_instance_uid]).transfer_syntax_uid == document.transfer_syntax_uid


# Some of these files have a File Meta Information in the wrong encoding.
@pytest.mark.filterwarnings("ignore:Expected explicit VR")
def test_every_real_file_goes_out_as_it_is() -> None:
    kept: dict[str, bytes] = {}

    def keep(event: evt.Event) -> int:
        assert isinstance(event.request, C_STORE)
        kept[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset(include_meta=False)
        return 0x0000

    documents = tuple(readable(shared("data/dicom").rglob("*.dcm")))
    with scp((evt.EVT_C_STORE, keep)) as peer:
        sent = send(link(peer, timeout_s=60.0), documents)
    taken = [document for document, one in zip(documents, sent, strict=True) if one.error is None]
    assert len(taken) > 200
    assert [one.status for one in sent if one.error] == [0x0122] * (len(sent) - len(taken))
    last = {document.sop_instance_uid: document for document in taken}
    assert [uid for uid, document in last.items() if kept[uid] != data_set(document.content)] == []


def readable(paths: Iterable[Path]) -> Iterator[Outgoing]:
    for path in sorted(paths):
        with suppress(CannotUnderstand):
            yield Outgoing.of(path)


def test_all_documents_go_over_one_association() -> None:
    opened: list[int] = []
    with scp((evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_ACCEPTED, lambda _: opened.append(1))) as peer:
        sent = send(link(peer), [Outgoing.of(a_file()) for _ in range(20)])
    assert [one.status for one in sent] == [0] * 20
    assert len(opened) == 1


def test_more_than_128_presentation_contexts_take_a_second_association() -> None:
    opened: list[int] = []
    classes = [context.abstract_syntax or "" for context in AllStoragePresentationContexts[:70]]
    with scp((evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_ACCEPTED, lambda _: opened.append(1))) as peer:
        sent = send(link(peer), [Outgoing.of(a_file(sop_class_uid=one)) for one in classes])
    assert [one.status for one in sent] == [0] * 70
    assert len(opened) == 2


def test_a_document_is_encoded_anew_only_for_a_peer_that_takes_nothing_but_implicit_vr(tmp_path: Path) -> None:
    content = a_file()
    with storescp(tmp_path, "+xi") as server:
        (sent,) = send(link(server.peer), [Outgoing.of(content)])
        (path,) = server.files()
    assert sent.error is None
    assert Outgoing.of(path).transfer_syntax_uid == UID(ImplicitVRLittleEndian)
    there, here = dcmread(path), dcmread(BytesIO(content))
    assert there == here


def test_a_refused_sop_class_leaves_the_other_documents(tmp_path: Path) -> None:
    profile = tmp_path / "only-ct.cfg"
    profile.write_text(ONLY_CT, encoding="ascii")
    contents = [a_file(), a_file(sop_class_uid=ComputedRadiographyImageStorage), a_file()]
    with storescp(tmp_path, "-xf", profile, "Default") as server:
        first, refused, last = send(link(server.peer), [Outgoing.of(content) for content in contents])
        files = arrived(server)
    assert files.keys() == {first.sop_instance_uid, last.sop_instance_uid}
    assert isinstance(refused.error, ArchiveRefused)
    assert refused.error.archive_status == 0x0122
    assert "Computed Radiography Image Storage" in str(refused.error)


def test_a_refusal_of_everything_is_final() -> None:
    with scp() as peer, pytest.raises(ArchiveRefused, match=r"scp: does not accept Study Root"):
        confirm_by_query(link(peer), [instance_ref(a_file())])


def test_each_answer_is_judged_by_itself() -> None:
    with answering(0x0000, 0xC000, 0xB000, 0xA700, 0x0000) as peer:
        sent = send(link(peer), [Outgoing.of(a_file()) for _ in range(5)])
    assert kinds(sent) == [None, ArchiveRefused, None, ArchiveUnreachable, None]
    assert [one.status for one in sent] == [0x0000, 0xC000, 0xB000, 0xA700, 0x0000]


@pytest.mark.parametrize(
    ("status", "kind"),
    # dcm4chee-arc refuses by 0xA771 what was rejected before, by 0xA777 what has no Patient ID: for good
    [(0xA700, ArchiveUnreachable), (0xA702, ArchiveUnreachable), (0xA771, ArchiveRefused), (0xA777, ArchiveRefused)],
)
def test_what_can_never_succeed_is_told_from_what_may_pass(status: int, kind: type) -> None:
    assert error_type(status) is kind


def test_an_error_that_may_pass_promises_no_attempt_for_the_last_attempt_leaves_the_same_words() -> None:
    with answering(0xA700) as peer:
        (full,) = send(link(peer), [Outgoing.of(a_file())])
    assert "try again later" in str(full.error)
    assert "will be" not in str(full.error)


@pytest.mark.parametrize("status", [0xA700, 0xC000, 0xB000])
def test_the_words_of_an_archive_are_kept_beside_the_error_and_not_in_it(status: int) -> None:
    def refuse(_: evt.Event) -> Dataset:
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = "Patient SECRET-7 is locked\n\x07[31m"
        return answer

    with scp((evt.EVT_C_STORE, refuse)) as peer:
        (sent,) = send(link(peer), [Outgoing.of(a_file())])
    assert sent.comment == "Patient SECRET-7 is locked [31m"
    assert "SECRET" not in str(sent.error)
    assert sent.error is None or sent.error.comment == sent.comment


def test_a_document_at_which_the_archive_aborts_stops_no_other_document() -> None:
    documents = [Outgoing.of(a_file()) for _ in range(6)]
    lethal_uids = {documents[number].sop_instance_uid for number in (2, 3)}
    with scp((evt.EVT_C_STORE, lambda event: aborted_at(lethal_uids, event))) as peer:
        sent = send(link(peer), documents)
    assert kinds(sent) == [None, None, ArchiveUnreachable, ArchiveUnreachable, None, None]
    assert [one.status for one in sent] == [0, 0, None, None, 0, 0]


def test_an_archive_that_takes_one_object_in_each_association_gets_half_of_what_is_left_at_each_attempt() -> None:
    def answer(event: evt.Event) -> int:
        if event.assoc.dimse.__dict__.setdefault("stored", []):
            event.assoc.abort()
        event.assoc.dimse.__dict__["stored"].append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    with scp((evt.EVT_C_STORE, answer)) as peer:
        sent = send(link(peer), [Outgoing.of(a_file()) for _ in range(5)])
    assert kinds(sent) == [None, ArchiveUnreachable, None, ArchiveUnreachable, None]


def test_an_archive_that_aborts_again_and_again_is_away() -> None:
    requests: list[evt.Event] = []
    with scp((evt.EVT_C_STORE, lambda event: requests.append(event) or event.assoc.abort() or 0)) as peer:
        sent = send(link(peer), [Outgoing.of(a_file()) for _ in range(8)])
    assert kinds(sent) == [ArchiveUnreachable] * 8
    assert len(requests) == 3


def test_what_never_left_is_told_from_what_an_archive_that_went_away_did_not_answer() -> None:
    stored_uids: list[str] = []

    def answer(event: evt.Event) -> int:
        if stored_uids:
            event.assoc.ae.require_calling_aet = ["NOBODY"]
            event.assoc.abort()
        stored_uids.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    with scp((evt.EVT_C_STORE, answer)) as peer:
        sent = send(link(peer), [Outgoing.of(a_file()) for _ in range(4)])
    assert kinds(sent) == [None, ArchiveUnreachable, NotSent, NotSent]


def test_the_second_answer_to_one_request_is_none_to_the_next() -> None:
    remaining = iter([0x0000, 0xC000, 0x0000])

    def answer(event: evt.Event) -> int:
        status = next(remaining)
        if status == 0x0000:
            again = C_STORE()
            again.MessageIDBeingRespondedTo, again.Status = event.request.MessageID, status
            again.AffectedSOPClassUID = event.request.AffectedSOPClassUID
            again.AffectedSOPInstanceUID = event.request.AffectedSOPInstanceUID
            event.assoc.dimse.send_msg(again, event.context.context_id)
        return status

    with scp((evt.EVT_C_STORE, answer)) as peer:
        stored, refused, _ = send(link(peer), [Outgoing.of(a_file()) for _ in range(3)])
    assert stored.is_proven
    assert isinstance(refused.error, ArchiveUnreachable)
    assert "answers another request" in str(refused.error)


def aborted_at(lethal_uids: Collection[str], event: evt.Event) -> int:
    if event.request.AffectedSOPInstanceUID in lethal_uids:
        event.assoc.abort()
    return 0x0000


@pytest.mark.parametrize("option", ["--abort-during", "--abort-after", "--refuse"])
def test_a_peer_that_breaks_off_is_a_retry(tmp_path: Path, option: str) -> None:
    with storescp(tmp_path, option) as server:
        sent = send(link(server.peer), [Outgoing.of(a_file(rows=512)), Outgoing.of(a_file())])
    error = NotSent if option == "--refuse" else ArchiveUnreachable
    assert kinds(sent) == [error, error]


def test_a_peer_that_does_not_answer_is_a_retry_after_the_timeout() -> None:
    over = threading.Event()
    with scp((evt.EVT_C_STORE, lambda _: int(over.wait(120)))) as peer:
        sent = send(link(peer, timeout_s=5.0), [Outgoing.of(a_file()) for _ in range(2)])
        assert not over.is_set()
        over.set()
    assert [isinstance(one.error, ArchiveUnreachable) for one in sent] == [True, True]
    assert all("did not answer" in str(one.error) and "in 5 s" in str(one.error) for one in sent)


def test_a_peer_that_is_down_is_a_retry_that_says_where_to_look() -> None:
    peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())
    (sent,) = send(link(peer), [Outgoing.of(a_file())])
    assert isinstance(sent.error, ArchiveUnreachable)
    with pytest.raises(ArchiveUnreachable, match=rf"pacs: no association with PACS at 127\.0\.0\.1:{peer.port}; check"):
        echo(link(peer))
    with pytest.raises(ArchiveUnreachable, match="cannot be resolved"):
        echo(link(peer.model_copy(update={"host": "no-such-host.invalid"})))


def test_a_wrong_ae_title_is_named_with_its_remedy(archive: Orthanc) -> None:
    echo(link(archive.peer))
    with pytest.raises(ArchiveUnreachable, match=r"called ae title not recognised; correct `ae_title`"):
        echo(link(archive.peer.model_copy(update={"ae_title": "OTHER"})))


def test_a_rejection_is_named_although_the_connection_is_closed_before_anybody_looks(archive: Orthanc) -> None:
    closed = threading.Event()
    handlers: list[evt.EventHandlerType] = [
        (evt.EVT_CONN_CLOSE, lambda _: closed.set()),
        (evt.EVT_REQUESTED, lambda _: closed.wait(60)),
    ]
    peer = archive.peer.model_copy(update={"ae_title": "OTHER"})
    with (
        pytest.raises(NotSent, match="called ae title not recognised"),
        link(peer).associate([build_context(CTImageStorage)], handlers=handlers),
    ):
        pass
    assert closed.is_set()


def test_small_messages_are_not_held_back() -> None:
    with scp() as peer, link(peer).associate([build_context(CTImageStorage)]) as association:
        assert connection_of(association).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_archive_that_does_not_know_us_says_what_to_add() -> None:
    with (
        scp(known=["OTHER"]) as peer,
        pytest.raises(ArchiveUnreachable, match=r"AINODE.*add our AE title"),
    ):
        echo(link(peer))


@pytest.mark.parametrize("content", [b"", b"text", bytes(128) + b"DICM", bytes(200), a_file().replace(b"UI", b"XX")])
def test_a_file_that_is_not_dicom_cannot_be_sent(content: bytes) -> None:
    with pytest.raises(CannotUnderstand, match="leave the file out"):
        Outgoing.of(content)


def test_orthanc_finds_and_counts_what_it_was_sent_twice(archive: Orthanc) -> None:
    study = generate_uid()
    series = [generate_uid(), generate_uid()]
    contents = [a_file(study=study, series=series[number % 2]) for number in range(4)]
    never_sent = a_file(study=study, series=series[1])
    documents = [Outgoing.of(content) for content in contents]
    for _ in range(2):
        assert [one.error for one in send(link(archive.peer), documents)] == [None] * 4
    stored = archive.instances_of(study)
    for document in documents:
        assert elements(archive.download(stored[document.sop_instance_uid])) == elements(document.content)
    found = confirm_by_query(link(archive.peer), [instance_ref(content) for content in [*contents, never_sent]])
    assert found == {document.sop_instance_uid for document in documents} == stored.keys()
    assert expected_count(link(archive.peer), UID(study)) == 4


def test_an_archive_owes_the_node_none_of_the_documents_that_the_node_sent(archive: Orthanc) -> None:
    study = generate_uid()
    images = [a_file(study=study, series=generate_uid()) for _ in range(3)]
    reports = [a_file(study=study, series=series) for series in (generate_uid(), generate_uid())]
    never_sent = a_file(study=study, series=generate_uid())
    sent = [Outgoing.of(content) for content in (*images, *reports)]
    assert [answer.error for answer in send(link(archive.peer), sent)] == [None] * 5
    own = [instance_ref(content) for content in (*reports, never_sent)]
    assert expected_count(link(archive.peer), UID(study), own) == 3


def test_an_archive_owes_the_node_no_document_of_nodes_whose_ledger_is_another(archive: Orthanc) -> None:
    study = generate_uid()
    images = [a_file(study=study, series=generate_uid(), SeriesNumber=number) for number in (1, 900_000_001)]
    reports = [a_file(study=study, series=generate_uid(), Manufacturer=MANUFACTURER) for _ in range(2)]
    captures = [a_file(study=study, series=generate_uid(prefix=None), SeriesNumber=910_000_001)]
    sent = [Outgoing.of(content) for content in (*images, *reports, *captures)]
    assert [answer.error for answer in send(link(archive.peer), sent)] == [None] * 5
    assert expected_count(link(archive.peer), UID(study)) == 2


@pytest.mark.parametrize("manner", ["refuses", "ignores the series"])
def test_an_archive_that_does_not_list_series_as_asked_is_owed_what_it_counts(manner: str) -> None:
    image, report = (a_file(study="2.25.9", series=series) for series in ("2.25.1", "2.25.2"))

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        level = event.identifier.QueryRetrieveLevel
        if level == "SERIES" and manner == "refuses":
            yield 0xA900, None
            return
        for content in [report] if level == "STUDY" else [image, report]:
            answer, ref = Dataset(), instance_ref(content)
            answer.StudyInstanceUID, answer.SeriesInstanceUID = ref.study_instance_uid, ref.series_instance_uid
            answer.SOPInstanceUID, answer.NumberOfStudyRelatedInstances = ref.sop_instance_uid, 2
            answer.Manufacturer = MANUFACTURER if content is report else "scanner"
            yield 0xFF00, answer

    with scp((evt.EVT_C_FIND, find), services=[STUDY_ROOT_FIND]) as peer:
        assert expected_count(link(peer), UID("2.25.9")) == (2 if manner == "refuses" else 1)


def test_an_instance_that_was_moved_to_another_study_is_found_by_its_own_uid(archive: Orthanc) -> None:
    content, never_sent = a_file(study=generate_uid()), a_file()
    send(link(archive.peer), [Outgoing.of(content)])
    sent_as = replace(instance_ref(content), study_instance_uid=UID("2.25.999"), series_instance_uid=UID("2.25.998"))
    found = confirm_by_query(link(archive.peer), [sent_as, instance_ref(never_sent)])
    assert found == {sent_as.sop_instance_uid}


@pytest.mark.parametrize("manner", ["refuses", "ignores the key", "aborts"])
def test_an_archive_that_knows_no_query_by_the_instance_alone_lists_what_it_has(manner: str) -> None:
    kept, absent = instance_ref(a_file()), instance_ref(a_file())

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        answer = Dataset()
        answer.QueryRetrieveLevel = "IMAGE"
        answer.SOPInstanceUID = kept.sop_instance_uid
        if event.identifier.StudyInstanceUID == kept.study_instance_uid:
            yield 0xFF00, answer
        elif not event.identifier.StudyInstanceUID and manner == "refuses":
            yield 0xA900, None
        elif not event.identifier.StudyInstanceUID and manner == "aborts":
            event.assoc.abort()
        elif not event.identifier.StudyInstanceUID:
            for _ in range(1000):
                yield 0xFF00, answer

    with scp((evt.EVT_C_FIND, find), services=[STUDY_ROOT_FIND]) as peer:
        assert confirm_by_query(link(peer), [kept, absent]) == {kept.sop_instance_uid}


def elements(file: Path | bytes) -> Dataset:
    """Return the elements without group lengths: Orthanc encodes what it gets anew, without them."""
    dataset = dcmread(BytesIO(file) if isinstance(file, bytes) else file)
    return Dataset({tag: element for tag, element in dataset.items() if tag.element != 0})


def test_no_expected_count_is_no_error(archive: Orthanc) -> None:
    assert expected_count(link(archive.peer), UID("1.2.3.4.5.6")) is None
    with scp() as modality:
        assert expected_count(link(modality), UID("1.2.3")) is None
    assert expected_count(link(modality), UID("1.2.3")) is None


def test_orthanc_commits_on_a_new_association_to_us(archive: Orthanc, our_port: int) -> None:
    kept, unknown = a_file(study=generate_uid()), a_file()
    send(link(archive.peer), [Outgoing.of(kept)])
    reports: Queue[Commitment] = Queue()
    transaction = UID(generate_uid())
    with scp((evt.EVT_N_EVENT_REPORT, taking(reports)), port=our_port):
        now = request_commitment(
            link(archive.peer), [reference(kept), reference(unknown)], transaction_uid=transaction, wait_s=0.1
        )
        report = reports.get(timeout=60)
    assert now is None
    assert report == Commitment(transaction, (reference(kept),), ((reference(unknown), 0x0112),))


def test_a_commitment_on_the_same_association_is_returned() -> None:
    asked = Commitment(UID(generate_uid()), (reference(a_file()),))
    earlier = Commitment(UID(generate_uid()), (reference(a_file()),))
    answers: Queue[int] = Queue()

    def promise(event: evt.Event) -> tuple[int, None]:
        assert Commitment.of_event(event.action_information) == asked
        threading.Timer(0.1, report_both, (event.assoc,)).start()
        return 0x0000, None

    def report_both(association: Association) -> None:
        for report in (earlier, asked):
            status, _ = association.send_n_event_report(report.event_information(), 1, COMMITMENT, f"{COMMITMENT}.1")
            answers.put(status.Status)

    with scp((evt.EVT_N_ACTION, promise)) as peer:
        report = request_commitment(link(peer), asked.committed, transaction_uid=asked.transaction_uid, wait_s=10.0)
        assert [answers.get(timeout=60), answers.get(timeout=60)] == [0x0110, 0x0000]
    assert report == asked


def test_a_commitment_that_cannot_be_kept_is_answered_with_a_failure() -> None:
    asked = Commitment(UID(generate_uid()), (reference(a_file()),))
    answers: Queue[int] = Queue()

    def promise(event: evt.Event) -> tuple[int, None]:
        threading.Timer(0.1, report, (event.assoc,)).start()
        return 0x0000, None

    def report(association: Association) -> None:
        status, _ = association.send_n_event_report(asked.event_information(), 1, COMMITMENT, f"{COMMITMENT}.1")
        answers.put(status.Status)

    def keep(_: Commitment) -> None:
        raise DatabaseUnavailable

    with scp((evt.EVT_N_ACTION, promise)) as peer:
        kept = request_commitment(
            link(peer), asked.committed, transaction_uid=asked.transaction_uid, keep=keep, wait_s=1.0
        )
        assert answers.get(timeout=60) == 0x0110
    assert kept is None


@pytest.mark.parametrize("failed", [(), ((SopReference(UID(CTImageStorage), UID("1.2.9")), 0x0112),)])
def test_we_report_to_a_sender_what_we_keep(failed: tuple[tuple[SopReference, int], ...]) -> None:
    reports: Queue[Commitment] = Queue()
    commitment = Commitment(UID("1.2.3.4"), (SopReference(UID(CTImageStorage), UID("1.2.8")),), failed)
    with scp((evt.EVT_N_EVENT_REPORT, taking(reports))) as sender:
        report_commitment(link(sender), commitment)
    assert reports.get(timeout=60) == commitment


def test_a_peer_without_storage_commitment_is_a_refusal(tmp_path: Path) -> None:
    with storescp(tmp_path) as server, pytest.raises(ArchiveRefused, match="Storage Commitment"):
        request_commitment(link(server.peer), [reference(a_file())], transaction_uid=UID("1.2.3"))


def taking(reports: Queue[Commitment]) -> Callable[[evt.Event], tuple[int, None]]:
    def take(event: evt.Event) -> tuple[int, None]:
        reports.put(Commitment.of_event(event.event_information))
        return 0x0000, None

    return take


# Earlier studies by C-MOVE, in the usual state after an installation


def moved(peer: Peer, content: bytes, folder: Path, port: int) -> ArchiveError:
    """Return the error of a C-MOVE to an AE title, which nobody made known to the archive."""
    ref = instance_ref(content)
    series = SeriesEntry(ref.study_instance_uid, ref.series_instance_uid, "CT")
    with pytest.raises(ArchiveError) as failure:
        DimseArchive(link(peer), MoveTarget("AINODE_PRIORS", "127.0.0.1", port)).fetch(
            series, folder, Deadline.within(20)
        )
    assert not list(folder.iterdir())
    return failure.value


def test_a_bound_certificate_brings_nothing_during_a_c_move_under_another_ae_title(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = authority(tmp_path, "ca")
    node, ct, pacs = (issued(ca, name) for name in ("node", "ct", "pacs"))
    context = tls.accepting(tls.ServerFiles(node.path, node.key, ca.path))
    bound = {"CT1": frozenset({"ct"}), "PACS": frozenset({identity(fingerprint(pacs))})}
    target = MoveTarget("AINODE_PRIORS", "127.0.0.1", free_port(), context, certificates=bound)
    statuses, content, folder = {}, tmp_path / "content.dcm", tmp_path / "received"
    content.write_bytes(a_file())
    folder.mkdir()

    def move(_: evt.Event) -> Iterator[object]:
        for ae_title, shown in (("PACS", ct), ("STORESCU", pacs), ("PACS", pacs)):
            options = ("+tls", shown.key, shown.path, "+cf", ca.path, "-aet", ae_title, "-aec", "AINODE_PRIORS")
            done = run("storescu", "-v", *options, "127.0.0.1", str(target.port), content)
            is_stored = "Received Store Response (Success)" in done.stderr + done.stdout
            statuses[ae_title, shown.path.stem] = is_stored, len(list(folder.iterdir()))
        yield None, None

    ref = instance_ref(content.read_bytes())
    series = SeriesEntry(ref.study_instance_uid, ref.series_instance_uid, "CT")
    with scp((evt.EVT_C_MOVE, move), services=[STUDY_ROOT_MOVE]) as peer, pytest.raises(ArchiveError):
        DimseArchive(link(peer), target).fetch(series, folder, Deadline.within(20))
    assert [count for _, count in statuses.values()] == [0, 0, 1]
    assert [is_stored for is_stored, _ in statuses.values()] == [False, False, True]
    lines = [record.getMessage() for record in caplog.records if getattr(record, "action", "") == "move_stranger"]
    assert ["'PACS'" in lines[0], "belongs to 'CT1'" in lines[0], "belongs to 'PACS'" in lines[1]] == [True] * 3


def test_orthanc_that_does_not_know_the_ae_title_of_a_c_move_is_told_apart(archive: Orthanc, tmp_path: Path) -> None:
    content, port = a_file(), free_port()
    send(link(archive.peer), [Outgoing.of(content)])
    assert f"AINODE_PRIORS known to the archive, with the address of this node and port {port}" in str(
        moved(archive.peer, content, tmp_path, port)
    )


@pytest.mark.parametrize("known", [{}, {"AINODE_PRIORS": 1}])
def test_dcmqrscp_that_does_not_know_or_reach_the_ae_title_of_a_c_move_is_told(
    tmp_path: Path, known: dict[str, int]
) -> None:
    content, port = a_file(), free_port()
    (folder := tmp_path / "moved").mkdir()
    with dcmqrscp(tmp_path, known) as peer:
        send(link(peer), [Outgoing.of(content)])
        assert "AINODE_PRIORS known to the archive" in str(moved(peer, content, folder, port))


@pytest.mark.parametrize("answer", [(None, None), ("127.0.0.1", 1)])
def test_an_archive_that_answers_a801_or_success_without_an_instance_names_the_ae_title_too(
    tmp_path: Path, answer: tuple[str | None, int | None]
) -> None:
    def move(_: evt.Event) -> Iterator[object]:
        yield answer  # pynetdicom answers 0xA801 for None
        yield 0

    with scp((evt.EVT_C_MOVE, move), services=[STUDY_ROOT_MOVE]) as peer:
        failure = moved(peer, a_file(), tmp_path, free_port())
    assert type(failure) is ArchiveRefused
    assert "AINODE_PRIORS known to the archive" in str(failure)


def test_a_stranger_who_calls_during_a_c_move_is_closed_and_the_archive_is_not(tmp_path: Path) -> None:
    port, closed = free_port(), {}

    def move(_: evt.Event) -> Iterator[object]:
        for address in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection(("127.0.0.1", port), source_address=(address, 0)) as connection:
                connection.settimeout(1.0)
                with contextlib.suppress(TimeoutError):
                    closed[address] = connection.recv(1) == b""
        yield None, None

    with scp((evt.EVT_C_MOVE, move), services=[STUDY_ROOT_MOVE]) as peer:
        moved(peer, a_file(), tmp_path, port)
    assert closed == {"127.0.0.2": True}


def test_an_archive_that_comes_back_has_what_it_had(tmp_path: Path) -> None:
    content = a_file(study="1.2.77")
    with orthanc(tmp_path) as server:
        send(link(server.peer), [Outgoing.of(content)])
        server.stop()
    with orthanc(tmp_path, port=server.port) as again:
        assert again.peer == server.peer
        assert confirm_by_query(link(again.peer), [instance_ref(content)]) == {Outgoing.of(content).sop_instance_uid}


def test_a_node_with_a_new_database_does_not_wait_for_its_own_documents_in_the_archive(
    archive: Orthanc, tmp_path: Path
) -> None:
    study = written(tmp_path, "read twice", instances=2)
    assert [answer.error for answer in send(link(archive.peer), list(map(Outgoing.of, study.paths)))] == [None] * 2
    for name in ("first", "second"):
        with running(configured(tmp_path / name, peers=[archive.peer], silence_s=5.0)) as node:
            sent = send(Link(node.peer, archive.peer.ae_title), list(map(Outgoing.of, study.paths)))
            assert [answer.error for answer in sent] == [None] * 2
            _, deliveries = node.read(study.uid)
            assert deliveries
            assert {delivery.state for delivery in deliveries} == {DeliveryState.CONFIRMED}
            assert "study complete: all 2 expected images or objects" in node.log.read_text()
    assert len(archive.instances_of(study.uid)) == 2 + len(deliveries), "the same documents"
