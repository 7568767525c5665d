"""Headers of axial CT slices, in series; nothing lies on disk."""

from pathlib import Path

from ainode.node.domain import UID, Instance, InstanceRef, Series, Value


def slices(
    count: int = 20, *, series: str = "1.1", step: float = 6.0, bottom: float = 0.0, **header: Value
) -> list[Instance]:
    """Headers of axial slices; nothing lies on disk."""
    return [
        Instance(
            InstanceRef(UID("1"), UID(series), UID("1.2"), UID(f"{series}.{bottom:g}.{sorted(header)}.{number}")),
            UID("1.2.840.10008.1.2.1"),
            Path(f"{series}-{number}"),
            "0" * 64,
            1,
            {
                "Modality": "CT",
                "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
                "ImageOrientationPatient": (1, 0, 0, 0, 1, 0),
                "ImagePositionPatient": (-100.0, -100.0, bottom + number * step),
                "PixelSpacing": (0.8, 0.8),
                "Rows": 512,
                "Columns": 512,
                "FrameOfReferenceUID": "1.9",
                "ConvolutionKernel": "B30f",
                "KVP": 120,
                "RescaleIntercept": -1024,
                "RescaleSlope": 1,
                "RescaleType": "HU",
                **header,
            },
        )
        for number in range(count)
    ]


def series_of(*groups: list[Instance], uid: str = "1.1") -> Series:
    return Series(UID(uid), "CT", tuple(instance for group in groups for instance in group))
