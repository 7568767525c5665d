"""Synthetic studies and an archive in memory of one process: for demonstrations, tests and other people's tests."""

import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from highdicom import sr
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from ainode.node.domain import SYNTHETIC_PATIENT_ID, Header, Position, SyntheticImage, synthetic_uid

_SUCCESS, _PENDING, _SOP_CLASS_NOT_SUPPORTED = 0x0000, 0xFF00, 0x0122
_DIGITAL_X_RAY, _CT = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.2"
_INTERCEPT, _TWELVE_BITS = -1024, 4095
# What differs from slice to slice within one series.
_OF_ONE_SLICE = frozenset({"ImagePositionPatient", "InstanceNumber", "SliceLocation"})


def uid(*parts: object) -> str:
    """Return the same UID for the same parts (PS3.5 B.2)."""
    return synthetic_uid(*parts)


def dataset(image: SyntheticImage, *, study: str, number: int = 1) -> Dataset:
    """Return a made-up image as a DICOM data set, DX unless its header says otherwise; the patient is nobody.

    Images with the same header values, but for what differs between slices, are of one series.
    """
    result = Dataset()
    result.SOPClassUID = _DIGITAL_X_RAY
    result.SOPInstanceUID = uid(study, "instance", number)
    result.StudyInstanceUID = uid(study)
    common = sorted((keyword, value) for keyword, value in image.header.items() if keyword not in _OF_ONE_SLICE)
    result.SeriesInstanceUID = uid(study, "series", common)
    result.PatientName, result.PatientID = "Synthetic^Nobody", SYNTHETIC_PATIENT_ID
    result.PatientBirthDate, result.PatientSex = "", "O"
    result.StudyDate, result.StudyTime, result.StudyID = "20260101", "120000", "1"
    result.AccessionNumber, result.ReferringPhysicianName = "", ""
    result.SeriesNumber, result.InstanceNumber = 1, number
    result.Modality, result.Manufacturer = "DX", "ainode phantoms"
    result.PatientOrientation, result.ImageLaterality = ["L", "F"], "U"
    result.ImageType = ["ORIGINAL", "PRIMARY"]
    result.PixelSpacing = result.ImagerPixelSpacing = [0.3, 0.3]
    _describe_pixels(result, image)
    result.BurnedInAnnotation = "NO"
    for keyword, value in image.header.items():
        setattr(result, keyword, list(value) if isinstance(value, tuple) else value)
    if result.Modality == "CT" and "RescaleType" not in image.header and image.samples == 1:
        result.RescaleType = "HU"
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return result


def _describe_pixels(result: Dataset, image: SyntheticImage) -> None:
    result.Rows, result.Columns, result.SamplesPerPixel = image.rows, image.columns, image.samples
    result.PixelRepresentation = 0
    result.PixelData = image.pixels
    if image.samples == 1:
        result.PhotometricInterpretation = "MONOCHROME2"
        result.BitsAllocated, result.BitsStored, result.HighBit = 16, 12, 11
        result.RescaleIntercept, result.RescaleSlope, result.RescaleType = 0, 1, "US"
        result.PresentationLUTShape = "IDENTITY"
        result["PixelData"].VR = "OW"
    else:
        result.PhotometricInterpretation, result.PlanarConfiguration = "RGB", 0
        result.BitsAllocated, result.BitsStored, result.HighBit = 8, 8, 7
        result["PixelData"].VR = "OB"


def noise(rows: int, columns: int, *, seed: int = 0, **header: str | int) -> SyntheticImage:
    """Return a 12-bit image of noise with the given header values, for tests that need no anatomy."""
    pixels = np.random.default_rng(seed).integers(0, 4096, (rows, columns), dtype=np.uint16)
    return SyntheticImage(rows, columns, pixels.astype("<u2").tobytes(), header)


def ct(
    values: NDArray[np.float32], spacing_mm: Sequence[float], *, frame: str, header: Header
) -> tuple[SyntheticImage, ...]:
    """Return a volume as axial slices of a CT, the volume's middle at the origin; `frame` names the patient's position.

    Shapes: values (Z, Y, X), to the head, the back and the left; spacing likewise.
    Units: Hounsfield units, cut to what 12 bits hold; mm.
    """
    stored = np.rint(np.clip(values - _INTERCEPT, 0, _TWELVE_BITS)).astype("<u2")
    _, rows, columns = values.shape
    z, y, x = (-(n - 1) / 2 * step for n, step in zip(values.shape, spacing_mm, strict=True))
    common: Header = {
        "SOPClassUID": _CT,
        "Modality": "CT",
        "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "PatientOrientation": ("L", "P"),
        "KVP": 120.0,
        "FrameOfReferenceUID": f"2.25.{int.from_bytes(hashlib.sha256(frame.encode()).digest()[:16], 'big')}",
        "PositionReferenceIndicator": "",
        "ImageOrientationPatient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "PixelSpacing": tuple(round(spacing, 6) for spacing in spacing_mm[1:]),
        "SliceThickness": float(spacing_mm[0]),
        "RescaleIntercept": float(_INTERCEPT),
        "RescaleSlope": 1.0,
        "RescaleType": "HU",
        **header,
    }
    images = []
    for number, pixels in enumerate(stored):
        at = (round(x, 4), round(y, 4), round(z + number * spacing_mm[0], 4))
        place: Header = {"ImagePositionPatient": at, "SliceLocation": at[2], "InstanceNumber": number + 1}
        images.append(SyntheticImage(rows, columns, pixels.tobytes(), {**common, **place}))
    return tuple(images)


def write(
    images: Iterable[SyntheticImage], folder: Path, *, study: str, positions_mm: Sequence[Position] = ()
) -> tuple[Path, ...]:
    """Write a synthetic study as Part 10 files, and a report that points at the positions; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = list(images)
    written = [dataset(picture, study=study, number=number) for number, picture in enumerate(pictures, start=1)]
    series_uids = list(dict.fromkeys(image.SeriesInstanceUID for image in written))
    for image, picture in zip(written, pictures, strict=True):
        image.SeriesNumber = picture.header.get("SeriesNumber", series_uids.index(image.SeriesInstanceUID) + 1)
    if positions_mm:
        written.append(pointing_report(written, positions_mm))
    paths = []
    for number, written_dataset in enumerate(written, start=1):
        path = folder / f"{number:04d}.dcm"
        written_dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


def pointing_report(images: Sequence[Dataset], positions_mm: Sequence[Position]) -> Dataset:
    """Return a report of a person who pointed at places in a CT: TID 1500 with a point in mm for each."""
    frame = images[0].FrameOfReferenceUID
    groups = [
        sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=uid(frame, "nodule", number), identifier=f"nodule {number}"),
            referenced_region=sr.ImageRegion3D(sr.GraphicTypeValues3D.POINT, np.asarray([position]), frame),
            finding_type=codes.SCT.Nodule,
        )
        for number, position in enumerate(positions_mm, start=1)
    ]
    person = sr.PersonObserverIdentifyingAttributes(name="Synthetic^Reader")
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(sr.ObserverContext(codes.DCM.Person, person)),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
    )
    return sr.Comprehensive3DSR(
        evidence=list(images),
        content=content[0],
        series_instance_uid=uid(frame, "report series"),
        series_number=2,
        sop_instance_uid=uid(frame, "report"),
        instance_number=1,
        manufacturer="ainode phantoms",
        is_complete=True,
    )


@dataclass
class EmbeddedArchive:
    """A small real archive on loopback: C-ECHO, C-STORE, C-FIND of instances.

    It keeps every object as a file and counts what it was sent; it can refuse SOP classes as real ones do.
    """

    folder: Path
    port: int
    ae_title: str = "ARCHIVE"
    refuse: Sequence[str] = ()
    stored: list[str] = field(default_factory=list)
    """SOP Instance UIDs in the order of arrival, one entry per C-STORE that succeeded"""

    def __enter__(self) -> Self:
        """Start listening."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entity = AE(ae_title=self.ae_title)
        entity.supported_contexts = [
            *AllStoragePresentationContexts,
            build_context(Verification),
            build_context(StudyRootQueryRetrieveInformationModelFind),
        ]
        handlers: list[evt.EventHandlerType] = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        self._lock = threading.Lock()
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; the files stay."""
        if self._server:
            self._server.shutdown()

    def files(self) -> tuple[Path, ...]:
        """Return what it keeps."""
        return tuple(sorted(self.folder.glob("*.dcm")))

    def _store(self, event: Event) -> int:
        request = cast("C_STORE", event.request)
        uid = str(request.AffectedSOPInstanceUID)
        if request.AffectedSOPClassUID in self.refuse:
            return _SOP_CLASS_NOT_SUPPORTED
        part = self.folder / f"{uid}.part"
        part.write_bytes(event.encoded_dataset())
        part.replace(part.with_suffix(".dcm"))  # a query reads every file that has its name
        with self._lock:
            self.stored.append(uid)
        return _SUCCESS

    def _find(self, event: Event) -> Any:  # noqa: ANN401 - a generator of pynetdicom's pairs
        query = event.identifier
        for path in self.files():
            stored = dcmread(path, stop_before_pixels=True)
            if all(
                not query.get(keyword) or str(stored.get(keyword)) in str(query[keyword].value).split("\\")
                for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            ):
                answer = Dataset()
                answer.QueryRetrieveLevel = query.QueryRetrieveLevel
                answer.StudyInstanceUID = stored.StudyInstanceUID
                answer.SeriesInstanceUID, answer.SOPInstanceUID = stored.SeriesInstanceUID, stored.SOPInstanceUID
                yield _PENDING, answer
