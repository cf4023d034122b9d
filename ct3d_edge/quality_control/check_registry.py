"""The registry of quality checks: the code, severity and meaning of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ct3d_edge.errors import UsageError
from ct3d_edge.scan.qc_flag import current_code

Action = Literal["ok", "warn", "refuse", "warn or refuse", "refused", "error"]


@dataclass(frozen=True)
class QualityCheck:
    """One quality check.

    Parameters
    ----------
    code
        Stable; its meaning never changes.
    action
        Without ``--downgrade-check``: ``ok`` is a measured value; ``warn`` and ``refuse`` are flags that can be
        downgraded, ``warn or refuse`` depends on the value; with ``refused`` and ``error`` there is no network input.
    meaning
        The measured value and its limits.
    """

    code: str
    action: Action
    meaning: str

    @property
    def downgradable(self) -> bool:
        """Whether ``allow`` takes the code."""
        return self.action in ("warn", "refuse", "warn or refuse")


CHECKS = (
    # The file
    QualityCheck("not_found", "error", "deleted since it was listed, or half of a .hdr/.img pair"),
    QualityCheck("unreadable", "error", "the system refuses to read it, or it is a pipe, a socket or a device"),
    QualityCheck("empty", "error", "0 bytes"),
    QualityCheck("not_nifti", "error", "another format (Analyze 7.5 without orientation included)"),
    QualityCheck("not_dicom", "error", "named as DICOM, and is not"),
    QualityCheck("no_pixel_data", "error", "DICOM without an image: a report, a plan, a DICOMDIR"),
    QualityCheck("dicom_support_missing", "error", "DICOM, and the installation lacks pydicom"),
    QualityCheck("missing_decoder", "error", "compressed in a way for which no decoder is installed"),
    QualityCheck("truncated", "error", "ends before its voxels do, or promises more than it can hold"),
    QualityCheck("bad_checksum", "error", "the gzip checksum or length does not match: a copy went wrong"),
    QualityCheck("corrupt_gzip", "error", "the gzip stream is broken inside"),
    QualityCheck(
        "bad_archive", "error", "a zip archive, or a file in it, is damaged, encrypted, a bomb, or leads elsewhere"
    ),
    QualityCheck("pixel_decode_error", "error", "compressed pixels cannot be decoded"),
    QualityCheck("too_large", "error", "its voxels (DICOM: one plane) do not fit into memory"),
    QualityCheck("trailing_data", "error", "far more data than the header describes"),
    QualityCheck("trailing_bytes", "warn", "other data behind a sound compressed stream; not read"),
    QualityCheck("bad_header", "error", "impossible dimensions, data type, scaling, offset or DICOM element"),
    QualityCheck(
        "modified_during_read", "error", "written to, or replaced, while it was read; run it again when it is whole"
    ),
    QualityCheck(
        "worker_died", "error", "two processes ended early while they had it (killed, out of memory, a crash)"
    ),
    QualityCheck("timeout", "error", "not finished within `--scan-timeout` seconds; the other scans went on"),
    QualityCheck(
        "extension_mismatch", "warn", "compressed although named `.nii`, or uncompressed although named `.gz`"
    ),
    QualityCheck("no_preamble", "warn", "DICOM files without preamble and transfer syntax; how many"),
    QualityCheck("unreadable_files", "warn", "files beside the series that cannot be read; how many"),
    QualityCheck(
        "incomplete_series",
        "warn",
        "fewer images than the files declare, or others of them under another path; how many images, or paths",
    ),
    # One volume
    QualityCheck("two_dimensional", "refused", "a single image"),
    QualityCheck("single_slice", "refused", "one slice"),
    QualityCheck(
        "multiple_volumes", "refused", "a fourth dimension, or DICOM slices of several volumes over the same range"
    ),
    QualityCheck(
        "conflicting_instances", "refused", "DICOM slices of one SOPInstanceUID that differ in pixels, size or place"
    ),
    QualityCheck(
        "missing_element", "refused", "DICOM slices that lack an element of scale or storage that others have; which"
    ),
    QualityCheck("multiple_series", "refused", "a folder of several DICOM series where one scan was asked for"),
    QualityCheck("unsupported_dtype", "refused", "colours, complex numbers"),
    QualityCheck("inconsistent_slices", "refused", "DICOM slices of different size, direction or pixel spacing"),
    QualityCheck("no_geometry", "refused", "DICOM slices without position or orientation"),
    QualityCheck(
        "localizer", "warn", "overview pictures among the slices, left out; how many. A series of them is refused"
    ),
    QualityCheck("not_ct", "refuse", "a header that names another modality; which"),
    QualityCheck("mixed_patients", "refuse", "files of several patients under one series UID; how many patients"),
    QualityCheck(
        "mixed_series",
        "refuse",
        "files under one series UID that differ in study, frame of reference, modality, date or number; in which",
    ),
    QualityCheck(
        "series_split",
        "warn",
        "files of the same series UID in other folders that belong to another scan; what differs",
    ),
    QualityCheck(
        "repeated_acquisition",
        "warn",
        "another series of the search shows the same slices with another convolution kernel, or is a copy; which",
    ),
    QualityCheck("pass_split", "warn", "one of several passes under one series UID; the attributes that differ"),
    QualityCheck(
        "inferred_series",
        "warn",
        "DICOM files without SeriesInstanceUID, or some without study or frame of reference; how many",
    ),
    QualityCheck(
        "derived", "warn", "a DICOM series computed from another one (DERIVED, SECONDARY), or projected (MIP); which"
    ),
    QualityCheck("duplicate_slices", "warn", "duplicate DICOM slices, dropped; how many"),
    # Geometry
    QualityCheck("orientation", "ok", "direction in which each array axis grows"),
    QualityCheck(
        "no_orientation",
        "refuse",
        "no usable orientation in the header; allowed, LAS is assumed (an array in memory: warn)",
    ),
    QualityCheck("bad_affine", "warn", "the orientation in the header is unusable and is ignored"),
    QualityCheck(
        "affine_repaired", "warn", "the qform was taken in place of a bad sform, or its numbers were repaired; how"
    ),
    QualityCheck(
        "default_affine", "warn", "the identity, or 512 pixels of exactly 1 mm: the geometry was lost; check it"
    ),
    QualityCheck("length_unit", "ok", "the header's unit of length where it is not the millimetre; converted"),
    QualityCheck("qform_sform", "warn or refuse", "mm between sform and qform, over 1; refused if axis codes differ"),
    QualityCheck("oblique", "warn", "angle to the nearest body axes, over 5 degrees"),
    QualityCheck(
        "gantry_tilt", "refuse", "angle by which array axes miss a right angle, over 1 degree (not resampled)"
    ),
    QualityCheck("missing_slices", "refuse", "holes of whole slices in a DICOM series; how many slices"),
    QualityCheck(
        "shifted_slices",
        "warn or refuse",
        "distance in mm of DICOM slices from the line from first to last, over 0.25 pixels; refused over 1",
    ),
    QualityCheck(
        "nonuniform_spacing",
        "warn or refuse",
        "how far from an even grid, over 0.1 slice distances; refused over 0.5",
    ),
    QualityCheck(
        "spacing",
        "warn",
        "voxel edges; below 0.1 mm, above 5 mm in the slice or above 12 mm between slices, or unlike in training",
    ),
    QualityCheck(
        "fov_extent",
        "warn",
        "length along the body; below 90 mm or above 700 mm, or an extent unlike in training",
    ),
    QualityCheck("too_few_slices", "warn or refuse", "voxels along the shortest axis; below 12, refused below 8"),
    QualityCheck("slice_count_shift", "warn", "slices along the body, unlike in training"),
    # Intensities and anatomy
    QualityCheck("non_finite", "warn", "share of NaN (taken as air) or infinite voxels; refused for good if over half"),
    QualityCheck("intensity_out_of_range", "warn", "lowest and highest sampled HU; below -10,000 or above 20,000"),
    QualityCheck(
        "pixel_padding", "warn", "DICOM padding that would look like anything but air, taken as air; which values"
    ),
    QualityCheck("missing_rescale", "warn", "DICOM without rescale slope and intercept, or with units that are not HU"),
    QualityCheck("monochrome1", "warn", "DICOM declared inverted for display; numbers are taken as they are"),
    QualityCheck("intensity_inverted", "refuse", "median HU of the slices' corners, 300 or more: air is bright"),
    QualityCheck(
        "intensity_not_hu",
        "refuse",
        "share of air (below -800 HU) under 0.5 %, or of soft tissue (-150 to 150 HU) under 2 %",
    ),
    QualityCheck(
        "anatomy_mismatch", "warn or refuse", "share of the body that looks like lung, under 8 %; refused under 3 %"
    ),
    QualityCheck("fov_fill", "warn", "share of voxels with one value like tissue's around the image, taken as air"),
    QualityCheck(
        "slice_order",
        "refuse",
        "slices whose nearest neighbour is elsewhere, 4 or more; or two parts exchanged",
    ),
    QualityCheck(
        "outlier_slices", "warn", "slices whose HU are distributed unlike those of the slices beside them; how many"
    ),
    QualityCheck(
        "interleaved_slices",
        "refuse",
        "slices that are more like the next but one than the next; 6 or more, and an eighth",
    ),
    QualityCheck(
        "orientation_mismatch",
        "warn or refuse",
        "lungs, spine or trachea contradict the orientation; a warning if only the table does; which",
    ),
    # The run
    QualityCheck("duplicate", "warn", "the same network input as an earlier scan of this run; which"),
    QualityCheck(
        "out_of_distribution", "warn", "distance of the network's features from the training scans', over the limit"
    ),
    QualityCheck("demonstration_model", "warn", "the prediction is by the bundled model, or by a file made from it"),
    QualityCheck(
        "auxiliary_output_failed",
        "warn",
        "a map, picture or report of the scan could not be written; which option asked for it",
    ),
    QualityCheck("identifiers", "ok", "name and ID of the patient, with `--include-phi` only"),
    QualityCheck("non_finite_output", "refused", "the network gave NaN or infinity"),
    QualityCheck("internal", "error", "a bug in ct3d-edge; its traceback is on standard error. Please report it"),
)

CODE_ORDER = {check.code: number for number, check in enumerate(CHECKS)}


DOWNGRADABLE = frozenset(check.code for check in CHECKS if check.downgradable)


def downgradable_codes(codes: Iterable[str]) -> list[str]:
    """Those of some codes that ``allow`` takes, each once, in the order of the table."""
    return sorted(DOWNGRADABLE.intersection(codes), key=CODE_ORDER.__getitem__)


def require_downgradable(codes: Iterable[str]) -> frozenset[str]:
    """The codes of ``allow`` by their present names.

    Raises
    ------
    UsageError
        For a code that does not exist or cannot be downgraded.
    """
    codes = frozenset(map(current_code, codes))
    for code in sorted(codes):
        if code not in CODE_ORDER:
            raise UsageError(f"There is no check {code}. `allow` takes: {', '.join(downgradable_codes(CODE_ORDER))}.")
        if code not in DOWNGRADABLE:
            raise UsageError(f"{code} cannot be downgraded: a model cannot run on such a scan.")
    return codes
