"""The frames of a DICOM file: one in a classic CT file, all of a volume in an enhanced one."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.tags import (
    read_code_strings,
    read_integer,
    read_numbers,
    read_order_number,
    read_sequence,
    read_text,
)

PASS_TAGS = (
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase",
    "NominalPercentageOfRespiratoryPhase",
    "EchoNumbers",
    "KVP",
    "SliceThickness",
    "TriggerTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "ContentTime",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "ScanOptions",
    "StackID",
)
"""What differs between two passes over the same part of the body; the first of them that does names the passes."""

ORDER_TAGS = ("InstanceNumber", "AcquisitionTime", "ContentTime")
"""What grows from slice to slice of one pass."""

FRAME_TAGS = [
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "InstanceNumber",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "SharedFunctionalGroupsSequence",
]


PASS_FEATURES = (*PASS_TAGS, "ImageType")
"""Names of the values in `Frame.passes`."""

PROJECTIONS = ("MIP", "MINIP", "MAX_IP", "MIN_IP")
"""Maximum and minimum intensity projections in ImageType (PS3.3, C.7.6.1.1.2 and C.8.16.1.4)."""

PLAIN_NUMBER = re.compile(r"-?\d{1,4}(\.\d{1,4})?")
"""Values of an attribute that may be shown: too short for a date, a time or an ID."""

HASH_DIGITS = 8
"""Of a value that is not shown: among the values of one series they differ."""


@dataclass(frozen=True)
class Frame:
    """One image of a file.

    Parameters
    ----------
    number
        In the file, counted from 0.
    position
        Centre of the first pixel in the patient, mm, LPS+; None if the file does not say.
    orientation
        Direction of a row and of a column, unit vectors, LPS+.
    spacing
        Distance of rows and of columns in mm.
    slope, intercept
        ``HU = stored * slope + intercept``; 1 and 0 if the file does not say.
    units
        What that gives: ``"HU"``; empty if the file gives a slope but no unit; None if it gives neither.
    kind
        ImageType in capitals: original or derived, primary or secondary, axial, localizer, ...
    missing
        Which of RescaleSlope and RescaleIntercept the file does not give.
    passes
        Value of each of `PASS_TAGS` and of ImageType, see `make_pass_value`.
    order
        Number of each of `ORDER_TAGS`; None where the file does not give one.
    """

    number: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slope: float
    intercept: float
    units: str | None
    kind: tuple[str, ...]
    missing: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    order: tuple[float | None, ...] = ()

    @property
    def is_localizer(self) -> bool:
        """Whether it is the overview picture that a scan is planned on."""
        return "LOCALIZER" in self.kind

    @property
    def is_derived(self) -> bool:
        """Whether it was computed from other images, and if so after the examination (PS3.3, C.7.6.1.1.2)."""
        return self.kind[:2] == ("DERIVED", "SECONDARY")

    @property
    def projection(self) -> str:
        """How slices were projected into this one, by ImageType: ``"MIP"``; empty if it is no projection."""
        words = {word for value in self.kind[2:] for word in (value, *value.split("_"), *value.split())}
        return next((word for word in PROJECTIONS if word in words), "")


def read_frames(dataset: Dataset, name: str, most: int) -> tuple[Frame, ...]:
    """Frames of a file, in its order.

    Parameters
    ----------
    name
        Of the file, for messages.
    most
        Frames whose pixels the file could possibly hold.

    Raises
    ------
    UnreadableScanError
        ``truncated`` if it promises more than ``most``; ``bad_header`` if their number or an element is impossible.
    """
    count = read_integer(dataset, "NumberOfFrames", name)
    count = 1 if count is None else count
    own = read_sequence(dataset, "PerFrameFunctionalGroupsSequence")
    if count < 1 or (own and len(own) != count):
        raise UnreadableScanError("bad_header", f"{name} says that it has {count} frames, and describes {len(own)}.")
    if count > most:
        raise UnreadableScanError(
            "truncated", f"{name} promises {plural(count, 'frame')}; it can hold {most}. Copy it again."
        )
    shared = read_sequence(dataset, "SharedFunctionalGroupsSequence")
    if not own and not shared:
        return tuple(_parse_frame(n, [dataset], dataset, name) for n in range(count))
    common = shared[0] if shared else Dataset()
    return tuple(
        _parse_frame(n, _functional_groups(own[n] if own else Dataset(), common), dataset, name) for n in range(count)
    )


FUNCTIONAL_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "CTImageFrameTypeSequence",
    "FrameContentSequence",
    "TemporalPositionSequence",
    "CardiacSynchronizationSequence",
    "RespiratorySynchronizationSequence",
    "CTReconstructionSequence",
    "CTXRayDetailsSequence",
)


def _functional_groups(own: Dataset, shared: Dataset) -> list[Dataset]:
    """The functional groups of a frame: its own, or else those of all frames (PS3.3, C.7.6.16)."""
    return [
        group
        for keyword in FUNCTIONAL_GROUPS
        for group in (read_sequence(own, keyword) or read_sequence(shared, keyword))[:1]
    ]


def _parse_frame(index: int, groups: list[Dataset], dataset: Dataset, name: str) -> Frame:
    def values(keyword: str, count: int) -> tuple[float, ...] | None:
        found = (read_numbers(group, keyword, count, name) for group in groups)
        return next((value for value in found if value is not None), None)

    slope, intercept = values("RescaleSlope", 1), values("RescaleIntercept", 1)
    if slope == (0.0,):
        raise UnreadableScanError("bad_header", f"{name}: RescaleSlope is 0.")
    units = _first_text(groups, "RescaleType")
    own_kind = next((found for group in groups if (found := read_code_strings(group, "FrameType"))), ())
    kind = own_kind or read_code_strings(dataset, "ImageType")
    described = groups if any(group is dataset for group in groups) else [*groups, dataset]
    return Frame(
        number=index,
        position=values("ImagePositionPatient", 3),
        orientation=values("ImageOrientationPatient", 6),
        spacing=values("PixelSpacing", 2),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        units=None if slope is None and intercept is None else units.upper(),
        kind=kind,
        missing=tuple(
            keyword for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)) if value is None
        ),
        passes=(
            *(make_pass_value(_first_text(described, keyword)) for keyword in PASS_TAGS),
            make_pass_value("\\".join(kind)),
        ),
        order=tuple(read_order_number(dataset, keyword) for keyword in ORDER_TAGS),
    )


def _first_text(groups: Sequence[Dataset], keyword: str) -> str:
    return next((text for group in groups if (text := read_text(group, keyword))), "")


def make_pass_value(text: str) -> str:
    """A value that may be compared and shown: a short number as it is, anything else hashed; empty stays empty."""
    return f"{float(text):.8g}" if PLAIN_NUMBER.fullmatch(text) else hash_text(text)[:HASH_DIGITS]


def hash_text(text: str) -> str:
    """What can be compared and not shown; empty stays empty."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""
