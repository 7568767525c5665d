"""Which slices are one stack, and which stack of a study is read; by headers alone."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from support.ct_headers import series_of, slices

from ainode.node.domain import UID, Instance, OutOfScope, Series, Value
from ainode.node.imaging.anatomy import body_part
from ainode.node.imaging.ct_series import CtRequirements, ct_stack
from ainode.node.imaging.geometry import Stack

WANTED = CtRequirements(min_slices=5, min_coverage_mm=20, max_spacing_mm=10)
VENOUS = CtRequirements(min_slices=5, min_coverage_mm=20, max_spacing_mm=10, contrast=True)


def changed(instances: Sequence[Instance], keyword: str, values: Sequence[Value]) -> list[Instance]:
    """The instances with a value of their own each."""
    pairs = zip(instances, values, strict=True)
    return [
        Instance(old.ref, old.transfer_syntax_uid, old.path, old.sha256, 1, {**old.header, keyword: value})
        for old, value in pairs
    ]


def answer_of(*series: Series, requirements: CtRequirements = WANTED) -> Stack | OutOfScope:
    return ct_stack(series, requirements)


def refusal_of(*series: Series, requirements: CtRequirements = WANTED) -> OutOfScope:
    answer = answer_of(*series, requirements=requirements)
    assert isinstance(answer, OutOfScope), answer
    return answer


PASSES: list[tuple[dict[str, Value], dict[str, Value], str]] = [
    ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, "Acquisition Number is 1 and 2"),
    ({"AcquisitionTime": "101500"}, {"AcquisitionTime": "101700.250"}, "Acquisition Time is 101500 and 101700.250"),
    (
        {"AcquisitionDateTime": "20260101101500.000+0100"},
        {"AcquisitionDateTime": "20260101101700.000+0100"},
        "Acquisition Time is",
    ),
    (
        {"AcquisitionDate": "20260101", "AcquisitionTime": "235959"},
        {"AcquisitionDate": "20260102", "AcquisitionTime": "000030"},
        "Acquisition Time is 235959 and 000030",
    ),
    ({"IrradiationEventUID": "1.5"}, {"IrradiationEventUID": "1.6"}, "Irradiation Event UID is 1.5 and 1.6"),
    ({"FrameOfReferenceUID": "1.7"}, {"FrameOfReferenceUID": "1.8"}, "Frame of Reference UID is 1.7 and 1.8"),
    ({"KVP": 80}, {"KVP": 140}, "KVP is 80 and 140"),
    (
        {"ContrastBolusAgent": ""},
        {"ContrastBolusAgent": "OMNIPAQUE"},
        "Contrast/Bolus Agent is given in one of them alone",
    ),
]
MOMENTS: list[tuple[dict[str, Value], dict[str, Value], str]] = [
    ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}, "Temporal Position Identifier is 1 and 2"),
    (
        {"NominalPercentageOfCardiacPhase": 40},
        {"NominalPercentageOfCardiacPhase": 75.0},
        "Nominal Percentage of Cardiac Phase is 40 and 75",
    ),
    ({"TriggerTime": 400}, {"TriggerTime": 750}, "Trigger Time is 400 and 750"),
]
INTERLEAVED: list[tuple[dict[str, Value], dict[str, Value], str]] = [
    *MOMENTS,
    (
        {"ImageType": ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM7 SPI DUAL", "DET_A")},
        {"ImageType": ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM7 SPI DUAL", "DET_B")},
        "Image Type is ORIGINAL/PRIMARY/AXIAL/CT_SOM7 SPI DUAL/DET_A and",
    ),
    ({"SeriesDescription": "insp"}, {"SeriesDescription": "exp"}, "Series Description differs"),
    ({"SeriesTime": "101500"}, {"SeriesTime": "101540"}, "Series Time is 101500 and 101540"),
    ({"ContrastBolusStartTime": "1014"}, {"ContrastBolusStartTime": "1013"}, "Contrast/Bolus Start Time is"),
    ({"GantryDetectorTilt": 0}, {"GantryDetectorTilt": 0.5}, "Gantry/Detector Tilt is 0 and 0.5"),
    ({"ContentTime": "101500"}, {"ContentTime": "101545"}, "Content Time is 101500 and 101545"),
]


@pytest.mark.parametrize(("one_pass", "other_pass", "reason"), PASSES)
def test_two_passes_that_interleave_are_refused_and_both_are_named(
    one_pass: dict[str, Value], other_pass: dict[str, Value], reason: str
) -> None:
    refusal = refusal_of(series_of(slices(**one_pass), slices(bottom=3.0, **other_pass)))
    assert refusal.code == "several-acquisitions"
    assert refusal.reason.startswith("series 1.1: two acquisitions fit equally well, 20 and 20 slices of 6.00 mm: ")
    assert reason in refusal.reason


@pytest.mark.parametrize(("one_pass", "other_pass", "reason"), PASSES)
def test_the_longer_of_two_passes_that_interleave_is_read_alone(
    one_pass: dict[str, Value], other_pass: dict[str, Value], reason: str
) -> None:
    answer = answer_of(series_of(slices(12, **one_pass), slices(20, bottom=3.0, **other_pass)))
    assert isinstance(answer, Stack), reason
    assert len(answer.instances) == 20
    assert answer.spacing_mm[0] == 6.0


@pytest.mark.parametrize(("one_pass", "other_pass", "reason"), PASSES)
def test_two_passes_side_by_side_are_no_single_stack(
    one_pass: dict[str, Value], other_pass: dict[str, Value], reason: str
) -> None:
    refusal = refusal_of(series_of(slices(**one_pass), slices(bottom=120.0, **other_pass)))
    assert reason in refusal.reason


@pytest.mark.parametrize("bottom", [3.0, 120.0], ids=["interleaved", "side by side"])
@pytest.mark.parametrize(
    ("keyword", "first", "second"),
    [
        ("PatientPosition", "HFS", "HFP"),
        ("Manufacturer", "SIEMENS", "GE"),
        ("ManufacturerModelName", "EMOTION", "FORCE"),
        ("StudyDate", "20260101", "20260301"),
    ],
)
def test_slices_of_two_positions_devices_or_days_are_no_single_stack(
    keyword: str, first: str, second: str, bottom: float
) -> None:
    refusal = refusal_of(series_of(slices(**{keyword: first}), slices(bottom=bottom, **{keyword: second})))
    assert f"is {first} and {second}" in refusal.reason


@pytest.mark.parametrize(("one_pass", "other_pass", "reason"), PASSES + MOMENTS)
def test_two_series_of_two_acquisitions_of_one_length_are_refused(
    one_pass: dict[str, Value], other_pass: dict[str, Value], reason: str
) -> None:
    one, other = slices(series="1.1", **one_pass), slices(series="1.2", **other_pass)
    refusal = refusal_of(series_of(one), series_of(other, uid="1.2"))
    assert refusal.reason.startswith("series 1.1 and 1.2: ")
    assert reason in refusal.reason


@pytest.mark.parametrize(("one_pass", "other_pass", "reason"), INTERLEAVED)
def test_slices_that_change_an_attribute_from_one_to_the_next_are_two_passes(
    one_pass: dict[str, Value], other_pass: dict[str, Value], reason: str
) -> None:
    refusal = refusal_of(series_of(slices(**one_pass), slices(bottom=3.0, **other_pass)))
    assert refusal.code == "several-acquisitions"
    assert reason in refusal.reason


def test_an_attribute_that_changes_halfway_through_a_scan_separates_nothing() -> None:
    answer = answer_of(series_of(slices(SeriesDescription="Neck"), slices(bottom=120.0, SeriesDescription="Chest")))
    assert isinstance(answer, Stack)
    assert len(answer.instances) == 40


@pytest.mark.parametrize(
    "numbers", [list(range(101, 121)), list(range(120, 100, -1))], ids=["the same way", "back again"]
)
def test_passes_that_nothing_but_the_instance_number_separates_do_not_interleave(numbers: list[Value]) -> None:
    first = changed(slices(), "InstanceNumber", list(range(1, 21)))
    second = changed(slices(bottom=-3.0), "InstanceNumber", numbers)
    refusal = refusal_of(series_of(first, second))
    assert refusal.code == "several-acquisitions"
    assert "Instance Number begins at " in refusal.reason


def test_two_sizes_that_share_a_scan_are_never_read_by_half() -> None:
    refusal = refusal_of(series_of(slices(), slices(bottom=120.0, Rows=256, Columns=256)))
    assert "Rows is 512 and 256" in refusal.reason or "Rows is 256 and 512" in refusal.reason


def test_two_sizes_of_one_scan_are_ranked() -> None:
    answer = answer_of(series_of(slices(Rows=256, Columns=256), slices()))
    assert isinstance(answer, Stack)
    assert len(answer.instances) == 20


def test_a_thickness_that_is_written_in_two_ways_separates_nothing() -> None:
    answer = answer_of(series_of(changed(slices(), "SliceThickness", [6.0, 6.001] * 10)))
    assert isinstance(answer, Stack)
    assert len(answer.instances) == 20


def test_two_kernels_that_interleave_are_no_single_stack() -> None:
    answer = answer_of(series_of(slices(ConvolutionKernel="B30f"), slices(bottom=3.0, ConvolutionKernel="B70f")))
    assert isinstance(answer, Stack)
    assert {instance.text("ConvolutionKernel") for instance in answer.instances} == {"B30f"}


def test_passes_that_only_the_time_of_the_content_separates_do_not_interleave() -> None:
    one, other = slices(ContentTime="101500"), slices(bottom=3.0, ContentTime="101700")
    answer = answer_of(series_of(one, other))
    assert isinstance(answer, OutOfScope) or answer.spacing_mm[0] == 6.0


def test_times_of_single_slices_separate_passes_too() -> None:
    first = changed(slices(), "AcquisitionTime", [f"1015{number:02d}.0" for number in range(20)])
    second = changed(slices(bottom=3.0), "AcquisitionTime", [f"1017{number:02d}.0" for number in range(20)])
    assert refusal_of(series_of(first, second)).code == "several-acquisitions"


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("AcquisitionNumber", list(range(1, 21))),
        ("AcquisitionNumber", list(range(20, 0, -1))),
        ("AcquisitionNumber", [number // 4 for number in range(20)]),
        ("IrradiationEventUID", [f"1.2.{number}" for number in range(20)]),
        ("AcquisitionTime", [f"10{15 + number:02d}00" for number in range(20)]),
        ("AcquisitionTime", [f"1015{number:02d}.5" for number in range(20)]),
        ("ContentTime", [f"1015{(7 * number) % 20:02d}.5" for number in range(20)]),
        ("InstanceNumber", list(range(20, 0, -1))),
        ("InstanceNumber", [9, 3, 17, 1, 12, 6, 20, 15, 2, 8, 19, 5, 11, 14, 4, 18, 7, 16, 10, 13]),
        ("InstanceNumber", [*range(11, 21), *range(1, 11)]),
        ("InstanceNumber", [4 * (number // 4) + 3 - number % 4 for number in range(20)]),
        ("TriggerTime", [float(100 + (7 * number) % 20) for number in range(20)]),
        ("TriggerTime", [float(400 + 20 * (number // 4)) for number in range(20)]),
        ("KVP", [120, 120.0] * 10),
    ],
)
def test_the_steps_of_one_scan_are_one_stack(keyword: str, values: list[Value]) -> None:
    answer = answer_of(series_of(changed(slices(), keyword, values)))
    assert isinstance(answer, Stack), answer
    assert len(answer.instances) == 20


def test_a_scan_over_midnight_at_the_end_of_a_month_is_one_stack() -> None:
    start = datetime(2026, 1, 31, 23, 59, 55)  # noqa: DTZ001 - as a header writes it
    moments: list[Value] = [f"{start + timedelta(seconds=number / 2):%Y%m%d%H%M%S.%f}" for number in range(20)]
    answer = answer_of(series_of(changed(slices(), "AcquisitionDateTime", moments)))
    assert isinstance(answer, Stack)
    assert len(answer.instances) == 20


def test_three_phases_of_one_length_are_refused_by_their_descriptions() -> None:
    phases = ("Abd arterial 5.0", "Abd portal venous 5.0", "Abd delayed 5.0")
    study = [
        series_of(slices(series=f"1.{number}", SeriesDescription=text), uid=f"1.{number}")
        for number, text in enumerate(phases)
    ]
    refusal = refusal_of(*study)
    assert "the phase is arterial and portal venous" in refusal.reason


def test_the_series_that_names_the_portal_venous_phase_is_read_among_others() -> None:
    phases = ("Abd arterial 5.0", "Abd 5.0", "Abd portal venous 5.0", "Abd delayed 5.0")
    study = [
        series_of(
            slices(
                series=f"1.{number}", SeriesDescription=text, ContrastBolusAgent="OMNIPAQUE", AcquisitionNumber=number
            ),
            uid=f"1.{number}",
        )
        for number, text in enumerate(phases)
    ]
    answer = answer_of(*study, requirements=VENOUS)
    assert isinstance(answer, Stack)
    assert answer.instances[0].ref.series_instance_uid == "1.2"


def test_reconstructions_of_one_acquisition_are_ranked_by_kernel_spacing_and_series_number() -> None:
    def recon(uid: str, number: int, *, step: float, kernel: str) -> Series:
        count = round(120 / step)
        return series_of(
            slices(
                count, series=uid, step=step, ConvolutionKernel=kernel, SeriesNumber=number, AcquisitionTime="101500"
            ),
            uid=uid,
        )

    study = [
        recon("1.9", 9, step=3.0, kernel="B30f"),
        recon("1.8", 8, step=1.5, kernel="B30f"),
        recon("1.7", 7, step=3.0, kernel="B70f"),
        recon("1.3", 5, step=3.0, kernel="B70f"),
        recon("1.5", 3, step=3.0, kernel="B70f"),
    ]
    answer = ct_stack(study, CtRequirements(5, 20, 10, "lung"))
    assert isinstance(answer, Stack)
    assert answer.instances[0].ref.series_instance_uid == "1.5"


@pytest.mark.parametrize(
    "header",
    [
        {"ImageType": ("DERIVED", "PRIMARY", "AXIAL", "MIP")},
        {"ImageType": ("DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MIP")},
        {"ImageType": ("DERIVED", "PRIMARY", "AXIAL", "CT_SOM7 MIP_THIN")},
        {"ImageType": ("DERIVED", "PRIMARY", "REFORMATTED", "MAX IP")},
        {"ImageType": ("DERIVED", "PRIMARY", "REFORMATTED", "MIN IP")},
        {"ImageType": ("DERIVED", "PRIMARY", "REFORMATTED", "MIN_IP")},
        {"ImageType": ("DERIVED", "PRIMARY", "REFORMATTED", "AVERAGE")},
        {"ImageType": ("ORIGINAL", "PRIMARY", "AXIAL", "RAYSUM")},
        {"SeriesDescription": "Thorax MIP 10mm"},
        {"SeriesDescription": "ThoraxMIP"},
        {"SeriesDescription": "MinIP ax 8.0"},
        {"SeriesDescription": "Lung_AveIP_5"},
        {"SeriesDescription": "Thorax Mittelwert 10mm"},
        {"SeriesDescription": "thorax épais moyenné"},
        {"SeriesDescription": "Tórax promedio"},
        {"SeriesDescription": "Torace, massima intensità"},
        {"SeriesDescription": "Tórax intensidad máxima"},
        {"SeriesDescription": "thick slab"},
        {"SeriesDescription": "thoraxmip"},
        {"SeriesDescription": "MIPthorax 8.0"},
        {"SeriesDescription": "MXIP"},
        {"SeriesDescription": "RMIP 3D"},
        {"SeriesDescription": "UntaggedAverage"},
        {"SeriesDescription": "AIP 4DCT"},
        {"SeriesDescription": "Thorax PIM 10mm"},
        {"SeriesDescription": "Durchschnitt 10mm"},
        {"SeriesDescription": "Maximumintensitätsprojektion"},
        {"SeriesDescription": "projection maximale"},
        {"SeriesDescription": "proyección máxima"},
        {"SeriesDescription": "Iodine map"},
        {"SeriesDescription": "Lunge Jodkarte"},
        {"SeriesDescription": "carte d'iode"},
        {"SeriesDescription": "Lung PBV"},
        {"SeriesDescription": "Subtraktion art-nat"},
        {"SeriesDescription": "Zeff"},
        {"ImageType": ("DERIVED", "MIP")},
        {"ImageType": ("DERIVED", "SECONDARY", "AXIAL", "MIPTHK")},
        {"ImageType": ("DERIVED", "SECONDARY", "AXIAL", "MAXIMUM")},
        {"ImageType": ("DERIVED", "SECONDARY", "AXIAL", "STMIP")},
        {"ImageType": ("DERIVED", "SECONDARY", "AXIAL", "VOLREN")},
        {"ImageType": ("DERIVED", "PRIMARY", "AXIAL", "DE IODINE MAP")},
        {"DerivationDescription": "Maximum intensity projection"},
        {"VolumeBasedCalculationTechnique": "MAX_IP"},
        {"DerivationCodeSequence": ({"CodeValue": "113079", "CodeMeaning": "Minimum intensity projection"},)},
    ],
)
def test_slabs_are_no_slices_and_the_refusal_says_what_says_so(header: dict[str, Value]) -> None:
    refusal = refusal_of(series_of(slices(**header)))
    assert refusal.code == "no-slices"
    assert any(f"{word} " in refusal.reason for word in ("Type says", "Description names", "Technique is", "Code is"))


@pytest.mark.parametrize(
    "header",
    [
        {"SeriesDescription": "Thorax 1.0 B70f"},
        {"SeriesDescription": "SHRIMP protocol"},
        {"SeriesDescription": "Chest tip to base, IP filter"},
        {"SeriesDescription": "Chest Ave Maria Hospital"},
        {"SeriesDescription": "CT Thorax subxiphoid 1.0"},
        {"ImageType": ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI")},
        {"ImageType": ("ORIGINAL", "PRIMARY", "AXIAL", "HELIX")},
    ],
)
def test_slices_are_no_slabs(header: dict[str, Value]) -> None:
    assert isinstance(answer_of(series_of(slices(**header))), Stack)


NO_AGENT = ["NONE", "None", "NO", "N", "no contrast", "NON", "WITHOUT", "N/A", "NA", "0", "-", "--", "OHNE KM", "ohne"]
NO_AGENT += ["SIN CONTRASTE", "sans injection", "senza mdc", "UNENHANCED", "nativ", "Nein", "kein", "aucun", "ninguno"]
NO_AGENT += [
    "nessuno",
    "NOT GIVEN",
    "null",
    "unknown",
    "?",
    "<none>",
    "(None)",
    "'NONE'",
    "N0NE",
    "0ML",
    "0.0 ml",
    "zero",
]
NO_AGENT += [
    "nicht gegeben",
    "rien",
    "pas de contraste",
    "nada",
    "niente",
    "S/C",
    "SC",
    "S/CTE",
    "NCE",
    "NaCl 0.9 %",
    "saline",
]
NOT_INTO_A_VEIN = [
    "ORAL",
    "oral contrast",
    "PO",
    "per os",
    "Gastrografin",
    "water",
    "Wasser",
    "H2O",
    "rectal",
    "barium",
    "MICROPAQUE",
    "E-Z-CAT",
    "Readi-Cat 2",
    "VoLumen",
    "Trinklösung",
    "leche",
    "PEG",
    "BaSO4",
]


@pytest.mark.parametrize("agent", NO_AGENT + NOT_INTO_A_VEIN)
def test_an_agent_that_is_none_in_words_or_was_drunk_is_no_contrast(agent: str) -> None:
    refusal = refusal_of(series_of(slices(ContrastBolusAgent=agent)), requirements=VENOUS)
    assert refusal.code == "wrong-contrast-phase"
    assert "series 1.1: Contrast/Bolus Agent " in refusal.reason


@pytest.mark.parametrize(
    "agent",
    [
        "OMNIPAQUE 350",
        "Ultravist 300 100 ml",
        "Non-ionic IV",
        "IV CONTRAST",
        "oral + IV",
        "XENETIX",
        "Iomeron",
        "CONTRAST",
        "nicht-ionisch",
        "Ultravist in NaCl 0.9 %",
        "SCANLUX",
        "NIOPAM 300",
        "100 ml Omnipaque",
    ],
)
def test_an_agent_that_goes_into_a_vein_is_contrast(agent: str) -> None:
    assert isinstance(answer_of(series_of(slices(ContrastBolusAgent=agent)), requirements=VENOUS), Stack)


@pytest.mark.parametrize(
    "route",
    [
        {"ContrastBolusRoute": "ORAL"},
        {"ContrastBolusRoute": "rectal"},
        {"ContrastBolusRoute": "vía oral"},
        {"ContrastBolusAdministrationRouteSequence": ({"CodeValue": "26643006", "CodeMeaning": "Oral route"},)},
    ],
)
def test_another_route_than_a_vein_is_no_contrast(route: dict[str, Value]) -> None:
    refusal = refusal_of(series_of(slices(ContrastBolusAgent="TELEBRIX", **route)), requirements=VENOUS)
    assert "Contrast/Bolus Route is not a vein" in refusal.reason


@pytest.mark.parametrize(
    "route",
    [
        {"ContrastBolusRoute": "IV"},
        {"ContrastBolusRoute": "Intravenous, oral"},
        {"ContrastBolusAdministrationRouteSequence": ({"CodeValue": "47625008", "CodeMeaning": "Intravenous route"},)},
    ],
)
def test_the_route_of_a_vein_is_contrast(route: dict[str, Value]) -> None:
    series = series_of(slices(ContrastBolusAgent="TELEBRIX", **route))
    assert isinstance(answer_of(series, requirements=VENOUS), Stack)


OTHER_PHASES = ["ABD PEL W/O", "Abd w/o IV", "ABD WO", "ABDOMEN C-", "Abd -C", "KM-", "PRE CONTRAST 5.0", "ABD PRE"]
OTHER_PHASES += ["PLAIN ABDOMEN", "ABDOMEN SIN CONTRASTE", "TC simple", "fase basal", "sin civ", "Abdomen ohne KM"]
OTHER_PHASES += ["Abdomen nativ", "Leeraufnahme", "o. KM", "Abdomen vor KM", "Abdomen sans injection", "sans PDC"]
OTHER_PHASES += [
    "avant injection",
    "avant l'injection",
    "TDM non injecté",
    "à blanc",
    "senza mdc",
    "fase diretta",
    "NCCT ABDOMEN",
]
OTHER_PHASES += ["ABD NONCON", "TRUE NON CON", "Abdomen VNC", "Virtual non-contrast", "virtuell nativ", "VUE"]
OTHER_PHASES += [
    "virtuelle sans contraste",
    "virtual sin contraste",
    "virtuale senza contrasto",
    "unenhanced",
    "non-enhanced",
]
OTHER_PHASES += ["arterial", "Früharteriell", "phase artérielle", "fase arteriosa", "pancreatic phase", "Pankreasphase"]
OTHER_PHASES += [
    "CTA abdomen",
    "delayed 5 min",
    "Spätphase",
    "phase tardive",
    "fase tardía",
    "fase tardiva",
    "retardada",
]
OTHER_PHASES += ["equilibrium", "nephrographic", "excretory", "fase ritardata", "urographique"]
OTHER_PHASES += [
    "Leerserie",
    "leer 5.0",
    "Abd C-_5.0",
    "ABDOMEN (-)",
    "s/ contraste",
    "ABD EN BLANCO",
    "PRE LIVER 3.0",
    "WOIV",
]
OTHER_PHASES += [
    "unverstärkt",
    "kontrastlos",
    "contraste spontané",
    "in bianco",
    "abd_nat",
    "VNCa",
    "NCE",
    "pas d'injection",
]
OTHER_PHASES += [
    "spätarteriell",
    "HAP",
    "ArtPhase 3.0",
    "aortic phase",
    "Aortenphase",
    "temps pancréatique",
    "A-Phase",
    "35s",
]
OTHER_PHASES += ["Abd 180 sec", "Abdomen 5 MIN", "10 Minuten", "uro-tardif", "nephro"]


@pytest.mark.parametrize("text", OTHER_PHASES)
@pytest.mark.parametrize("keyword", ["SeriesDescription", "ProtocolName"])
def test_another_phase_is_refused_in_five_languages(keyword: str, text: str) -> None:
    header: dict[str, Value] = {"ContrastBolusAgent": "OMNIPAQUE", keyword: text}
    refusal = refusal_of(series_of(slices(**header)), requirements=VENOUS)
    assert refusal.code == "wrong-contrast-phase"
    assert " names the " in refusal.reason


def test_where_pixels_tell_the_phase_an_absent_agent_is_no_refusal_and_a_stated_one_still_is() -> None:
    told_by_pixels = replace(VENOUS, agent_may_be_absent=True)
    absence = refusal_of(series_of(slices()), requirements=VENOUS).reason
    assert "Contrast/Bolus Agent is absent" in absence
    assert "a volume without a header, such as NIfTI, cannot name its phase" in absence
    assert isinstance(answer_of(series_of(slices()), requirements=told_by_pixels), Stack)
    for header, words in (
        ({"ContrastBolusAgent": "none"}, "says that there is none"),
        ({"SeriesDescription": "arterial"}, "names the arterial phase"),
        ({"ContrastBolusRoute": "ORAL"}, "is not a vein"),
    ):
        assert words in refusal_of(series_of(slices(**header)), requirements=told_by_pixels).reason


def test_a_native_image_computed_from_two_energies_is_refused() -> None:
    image_type = ("DERIVED", "PRIMARY", "AXIAL", "CT_SOM7 DE VNC")
    refusal = refusal_of(series_of(slices(ContrastBolusAgent="OMNIPAQUE", ImageType=image_type)), requirements=VENOUS)
    assert refusal.code == "not-one-spectrum"
    assert "a material and no attenuation as scanned" in refusal.reason


@pytest.mark.parametrize(
    "text",
    [
        "ABD PORTAL VENOUS",
        "Abdomen pv 5.0",
        "Abd venös",
        "phase portale",
        "fase portal",
        "fase venosa",
        "Abdomen mit KM",
        "Abdomen con contraste",
        "ABD C+",
        "Abdomen 5.0",
        "Abd pre-op portal venous",
        "Thorax-Abdomen i.v.",
        "Abdomen venös 70 s",
        "Abd 75 sec",
        "Abdomen I40f 3 S3",
        "Abdomen 0.5s 120 kV",
        "Nachsorge Abdomen",
    ],
)
def test_the_portal_venous_phase_is_read_in_five_languages(text: str) -> None:
    series = series_of(
        slices(ContrastBolusAgent="OMNIPAQUE", SeriesDescription=text, ProtocolName="Abdomen nativ/venös")
    )
    if "port" in text or "ven" in text.lower():
        assert isinstance(answer_of(series, requirements=VENOUS), Stack)
    series = series_of(slices(ContrastBolusAgent="OMNIPAQUE", SeriesDescription=text))
    assert isinstance(answer_of(series, requirements=VENOUS), Stack)


def test_a_multi_frame_image_is_refused_by_that_word() -> None:
    refusal = refusal_of(series_of(slices(1, NumberOfFrames=40)))
    assert refusal.code == "multi-frame"
    assert "is a multi-frame image of 40 frames" in refusal.reason


@pytest.mark.parametrize("unit", ["MGML", "Z_EFF", "EDW", "ED", "PCT", "HU_MOD", "US", "OD"])
def test_another_rescale_type_than_hounsfield_units_is_refused_by_its_name(unit: str) -> None:
    refusal = refusal_of(series_of(slices(RescaleType=unit)))
    assert refusal.code == "not-hounsfield"
    assert refusal.reason == f"series 1.1: Rescale Type is {unit!r}; Hounsfield units are read"


def test_one_slice_of_another_unit_is_enough() -> None:
    units = ["HU"] * 19 + ["MGML"]
    assert refusal_of(series_of(changed(slices(), "RescaleType", units))).code == "not-hounsfield"


def test_a_shift_of_some_slices_against_the_others_is_refused() -> None:
    shifted = changed(slices(), "RescaleIntercept", [-1024] * 15 + [0] * 5)
    refusal = refusal_of(series_of(shifted))
    assert refusal.code == "not-hounsfield"
    assert "Rescale Intercept is -1024 and 0 in one scan" in refusal.reason


def test_slices_that_are_scaled_one_by_one_are_read() -> None:
    scaled = changed(slices(), "RescaleIntercept", [-1024 - number for number in range(20)])
    scaled = changed(scaled, "RescaleSlope", [1 + number / 1024 for number in range(20)])
    assert isinstance(answer_of(series_of(scaled)), Stack)


@pytest.mark.parametrize("unit", ["HU", "hu ", "", "Hounsfield Units"])
def test_hounsfield_units_are_read_however_they_are_written(unit: str) -> None:
    assert isinstance(answer_of(series_of(slices(RescaleType=unit))), Stack)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"RescaleIntercept": ""}, "Rescale Intercept is absent"),
        ({"RescaleSlope": ""}, "Rescale Slope is absent"),
        ({"RescaleSlope": 0}, "Rescale Slope is 0"),
        ({"RescaleSlope": -1.0}, "Rescale Slope is -1.0"),
        ({"ModalityLUTSequence": ({"ModalityLUTType": "OD"},)}, "Modality LUT Type is 'OD'"),
    ],
)
def test_a_ct_without_values_for_the_rescale_is_refused(header: dict[str, Value], reason: str) -> None:
    assert reason in refusal_of(series_of(slices(**header))).reason


def test_a_modality_lut_of_hounsfield_units_needs_no_rescale() -> None:
    luts = ({"ModalityLUTType": "HU"},)
    series = series_of(slices(ModalityLUTSequence=luts, RescaleSlope="", RescaleIntercept=""))
    assert isinstance(answer_of(series), Stack)


def test_the_series_of_hounsfield_units_is_read_beside_a_material_map() -> None:
    series = series_of(slices(series="1.1", RescaleType="MGML")), series_of(slices(series="1.2"), uid="1.2")
    answer = answer_of(*series)
    assert isinstance(answer, Stack)
    assert answer.instances[0].ref.series_instance_uid == "1.2"


@pytest.mark.parametrize(
    ("header", "other"),
    [
        ({"SeriesDescription": "Carter MIP"}, {}),
        ({"DerivationDescription": "Carter MIP"}, {}),
        ({"SeriesDescription": "Carter"}, {}),
        ({"ProtocolName": "Carter"}, {}),
        ({"ContrastBolusAgent": "none, Carter"}, {}),
        ({"ContrastBolusAgent": "Carter oral"}, {}),
        ({"ContrastBolusRoute": "Carter oral"}, {}),
        ({"SeriesDescription": "Carter"}, {"SeriesDescription": "Moyer"}),
        ({"ContrastBolusAgent": "Carter"}, {"ContrastBolusAgent": "Moyer"}),
        ({"BodyPartExamined": "ABDOMEN Carter"}, {}),
        ({"RescaleType": "Carter"}, {}),
        ({"RescaleSlope": "Carter"}, {}),
        ({"ImageType": ("DERIVED", "PRIMARY", "Carter MIP")}, {}),
        ({"KVP": "Carter"}, {"KVP": "Moyer"}),
        ({"PatientPosition": "Carter"}, {"PatientPosition": "Moyer"}),
    ],
)
def test_no_reason_quotes_what_a_person_typed(header: dict[str, Value], other: dict[str, Value]) -> None:
    agent = {"ContrastBolusAgent": "Iomeron"}
    passes = [slices(**(agent | header)), *([slices(bottom=3.0, **(agent | other))] if other else [])]
    answer = answer_of(series_of(*passes), requirements=VENOUS)
    reason = answer.reason if isinstance(answer, OutOfScope) else str(body_part(header))
    assert not re.search("carter|moyer", reason, re.IGNORECASE)


@pytest.mark.parametrize(
    ("header", "code", "words"),
    [
        ({"SpacingBetweenSlices": 3}, "wrong-slice-distance", "6.00 mm apart by Image Position, 3.00 mm by Spacing"),
        ({"GantryDetectorTilt": -20.0}, "gantry-tilt", "Tilt is 20.0 degrees, but Image Orientation leans by 0.0"),
    ],
)
def test_an_element_that_contradicts_the_places_of_slices_is_refused_with_both(
    header: dict[str, Value], code: str, words: str
) -> None:
    refusal = refusal_of(series_of(slices(**header)))
    assert refusal.code == code
    assert words in refusal.reason


def test_slice_locations_that_contradict_the_positions_are_refused_with_both() -> None:
    refusal = refusal_of(series_of(changed(slices(), "SliceLocation", [3.0 * number for number in range(20)])))
    assert "6.00 mm apart by Image Position, 3.00 mm by Slice Location" in refusal.reason


def test_elements_that_agree_with_the_places_of_slices_are_read() -> None:
    agreeing = slices(SpacingBetweenSlices=-6.0, GantryDetectorTilt=0.5)
    falling = changed(agreeing, "SliceLocation", [-6.0 * number for number in range(20)])
    assert isinstance(answer_of(series_of(falling)), Stack)
    all_zero = changed(agreeing, "SliceLocation", [0.0] * 20)
    assert isinstance(answer_of(series_of(all_zero)), Stack)


def test_rounded_slice_locations_outweigh_a_spacing_that_contradicts_the_positions() -> None:
    locations = [6.0 * number + number % 2 for number in range(20)]
    scan = changed(slices(SpacingBetweenSlices=3.0), "SliceLocation", locations)
    assert isinstance(answer_of(series_of(scan)), Stack)


@pytest.mark.parametrize("count", [8, 20])
def test_a_part_of_a_scan_whose_other_part_is_another_series_is_refused(count: int) -> None:
    lower = series_of(slices(20))
    upper = series_of(slices(count, series="1.3", bottom=120.0), uid="1.3")
    refusal = refusal_of(lower, upper)
    assert refusal.code == "part-of-a-scan"
    assert "the one goes on where the other ends" in refusal.reason


@pytest.mark.parametrize(
    "header", [{"bottom": 60.0}, {"bottom": 150.0}, {"bottom": 120.0, "FrameOfReferenceUID": "1.8"}]
)
def test_series_that_do_not_go_on_where_another_ends_are_ranked_as_before(header: dict[str, Value]) -> None:
    other = series_of(slices(8, series="1.3", **header), uid="1.3")  # type: ignore[arg-type]
    answer = answer_of(series_of(slices(20)), other)
    assert isinstance(answer, Stack)
    assert len(answer.instances) == 20


DERIVED = ("DERIVED", "PRIMARY", "AXIAL")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"ImageType": (*DERIVED, "VMI")}, "virtual monoenergetic image of an unknown energy"),
        ({"ImageType": (*DERIVED, "VMI"), "SeriesDescription": "Thorax 40 keV"}, "monoenergetic image of 40 keV"),
        ({"ImageType": (*DERIVED, "MONO_E40")}, "virtual monoenergetic image of an unknown energy"),
        ({"ImageType": (*DERIVED, "MONOENERGETIC_190KEV")}, "monoenergetic image of 190 keV"),
        ({"SeriesDescription": "Abdomen mono+ 40keV"}, "monoenergetic image of 40 keV"),
        ({"MultienergyCTCharacteristicsSequence": ({"MonoenergeticEnergyEquivalent": 50.0},)}, "image of 50 keV"),
        ({"ImageType": (*DERIVED, "MAT_REMOVED")}, "Image Type says 'MAT_REMOVED'"),
        ({"ImageType": (*DERIVED, "VNC")}, "Image Type says 'VNC'"),
        ({"ImageType": (*DERIVED, "Z_EFF")}, "Image Type says 'Z_EFF'"),
        ({"ImageType": (*DERIVED, "WATER")}, "Image Type says 'WATER'"),
        (
            {"ImageType": DERIVED, "SeriesDescription": "Abdomen VNC"},
            "Series Description names a material or a virtual",
        ),
    ],
)
def test_images_that_are_computed_from_several_energies_are_refused(header: dict[str, Value], words: str) -> None:
    refusal = refusal_of(series_of(slices(**header)))
    assert refusal.code == "not-one-spectrum"
    assert words in refusal.reason
    assert "60 to 80 keV, is read" in refusal.reason


@pytest.mark.parametrize(
    "header",
    [
        {"ImageType": (*DERIVED, "VMI"), "SeriesDescription": "Thorax 70 keV"},
        {
            "ImageType": (*DERIVED, "VMI"),
            "MultienergyCTCharacteristicsSequence": ({"MonoenergeticEnergyEquivalent": 65},),
        },
        {"ImageType": ("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM7 SPI DUAL"), "SeriesDescription": "DE_Thorax F_0.5"},
        {"SeriesDescription": "VNC Hospital, monoplane"},
        {"ImageType": DERIVED, "SeriesDescription": "Thorax 120 kV MPR ax"},
    ],
)
def test_images_as_of_one_spectrum_are_read(header: dict[str, Value]) -> None:
    assert isinstance(answer_of(series_of(slices(**header))), Stack)


def test_the_images_of_one_spectrum_are_read_beside_those_of_one_energy() -> None:
    energy = series_of(slices(30, series="1.3", SeriesDescription="40 keV"), uid="1.3")
    answer = answer_of(energy, series_of(slices(20)))
    assert isinstance(answer, Stack)
    assert len(answer.instances) == 20


@pytest.mark.parametrize(
    "numbers",
    [range(48, 64), range(1), range(20, 23), range(0, 64, 2)],
    ids=["at one end", "the lowest", "in the middle", "every other"],
)
def test_a_scan_of_which_slices_say_another_grid_is_refused_with_both_grids(numbers: range) -> None:
    scan = [
        replace(instance, header={**instance.header, "Rows": 256, "Columns": 256}) if number in numbers else instance
        for number, instance in enumerate(slices(64))
    ]
    refusal = refusal_of(series_of(scan))
    assert refusal.code == "part-of-a-scan"
    assert refusal.reason.startswith("series 1.1: one scan on two grids, ")
    assert all(f"{len(group)}" in refusal.reason for group in (numbers, set(range(64)) - set(numbers)))
    assert "Rows is " in refusal.reason
    assert "Columns is " in refusal.reason
    assert refusal.reason.endswith("send the scan on one grid")


@pytest.mark.parametrize(
    "other",
    [
        slices(20, PixelSpacing=(0.4, 0.4)),
        slices(10, bottom=200.0, PixelSpacing=(0.4, 0.4)),
        slices(3, ImageOrientationPatient=(1, 0, 0, 0, 0, -1)),
    ],
    ids=["a second reconstruction", "another region", "images of another orientation"],
)
def test_what_a_series_holds_beside_a_whole_scan_is_no_part_of_the_scan(other: list[Instance]) -> None:
    answer = answer_of(series_of(slices(), other))
    assert isinstance(answer, Stack)
    assert len(answer.instances) == 20


def captured(instances: Sequence[Instance], **header: Value) -> list[Instance]:
    """The slices as Secondary Captures."""
    secondary = UID("1.2.840.10008.5.1.4.1.1.7")
    return [
        replace(instance, ref=replace(instance.ref, sop_class_uid=secondary), header={**instance.header, **header})
        for instance in instances
    ]


@pytest.mark.parametrize(
    "scan",
    [captured(slices()), captured(slices(), ConversionType="WSD"), slices(ConversionType="WSD")],
    ids=["captures", "captures of a workstation", "slices of a workstation"],
)
def test_captures_that_lie_like_slices_are_no_slices_unless_they_are_asked_for(scan: list[Instance]) -> None:
    refusal = refusal_of(series_of(scan))
    assert refusal.code == "no-picture"
    assert "which may be what a screen showed; the image itself is read" in refusal.reason
    assert isinstance(answer_of(series_of(scan), requirements=replace(WANTED, captures=True)), Stack)


def test_a_capture_beside_slices_is_left_out() -> None:
    answer = answer_of(series_of(slices(), captured(slices(1, bottom=120.0))))
    assert isinstance(answer, Stack)
    assert len(answer.instances) == 20
