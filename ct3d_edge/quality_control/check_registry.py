"""The one table of everything that can be said of a scan: code, what it means, what is done about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ct3d_edge.errors import UsageError

Action = Literal["ok", "warn", "refuse", "warn or refuse", "refused", "error"]


@dataclass(frozen=True)
class Rule:
    """What a code stands for.

    Parameters
    ----------
    code
        Stable; never given another meaning.
    action
        Without ``--allow``: ``ok`` is a measured value for the record; ``warn`` and ``refuse`` are findings that
        can be allowed, ``warn or refuse`` by how much; ``refused`` and ``error`` leave nothing to go on with.
    meaning
        What is measured, and from where on it counts.
    """

    code: str
    action: Action
    meaning: str

    @property
    def switchable(self) -> bool:
        """Whether ``--allow`` takes the code."""
        return self.action in ("warn", "refuse", "warn or refuse")


RULES = (
    # The file
    Rule("not_found", "error", "gone since it was listed, or half of a .hdr/.img pair"),
    Rule("unreadable", "error", "the system refuses to read it, or it is a pipe, a socket or a device"),
    Rule("empty", "error", "0 bytes"),
    Rule("not_nifti", "error", "another format (Analyze 7.5 without orientation included)"),
    Rule("not_dicom", "error", "named as DICOM, and is not"),
    Rule("no_image", "error", "DICOM without an image: a report, a plan, a DICOMDIR"),
    Rule("dicom", "error", "DICOM, and the installation lacks pydicom"),
    Rule("dicom_plugin", "error", "compressed in a way for which no decoder is installed"),
    Rule("truncated", "error", "ends before its voxels do, or promises more than it can hold"),
    Rule("bad_checksum", "error", "the gzip checksum or length does not match: a copy went wrong"),
    Rule("corrupt_gzip", "error", "the gzip stream is broken inside"),
    Rule("bad_pixels", "error", "compressed pixels cannot be decoded"),
    Rule("too_large", "error", "its voxels (DICOM: one plane) do not fit into memory"),
    Rule("oversized", "error", "far more data than the header describes"),
    Rule("bad_header", "error", "impossible dimensions, data type, scaling, offset or DICOM element"),
    Rule("changed", "error", "written to, or replaced, while it was read; run it again when it is whole"),
    Rule("timed_out", "error", "not finished within `--scan-timeout` seconds; the other scans went on"),
    Rule("misnamed", "warn", "compressed although named `.nii`, or uncompressed although named `.gz`"),
    Rule("no_preamble", "warn", "DICOM files that do not say how they are encoded; how many"),
    Rule("unreadable_files", "warn", "files beside the series that cannot be read; how many"),
    Rule("incomplete_series", "warn", "fewer images than the files speak of; how many there are"),
    # One volume
    Rule("two_dimensional", "refused", "a single image"),
    Rule("single_slice", "refused", "one slice"),
    Rule("several_volumes", "refused", "a fourth dimension, or DICOM slices of several passes over the same range"),
    Rule("conflicting_instances", "refused", "DICOM slices of one SOPInstanceUID that differ in pixels, size or place"),
    Rule("missing_element", "refused", "DICOM slices that lack an element of scale or storage that others have; which"),
    Rule("several_series", "refused", "a folder of several DICOM series where one scan was asked for"),
    Rule("unsupported_dtype", "refused", "colours, complex numbers"),
    Rule("mixed_slices", "refused", "DICOM slices of different size, direction or pixel spacing"),
    Rule("no_geometry", "refused", "DICOM slices that do not say where they lie"),
    Rule("localizer", "warn", "overview pictures among the slices, left out; how many. A series of them is refused"),
    Rule("not_ct", "refuse", "DICOM of another modality; which"),
    Rule("mixed_patients", "refuse", "files of several patients under one series UID; how many patients"),
    Rule(
        "mixed_series",
        "refuse",
        "files under one series UID that differ in study, frame of reference, modality or series number; in which",
    ),
    Rule(
        "identity_split",
        "warn",
        "files of the same series UID in folders below that belong to another scan, left out; what differs",
    ),
    Rule("inferred_series", "warn", "DICOM files without SeriesInstanceUID, taken together by their folder; how many"),
    Rule("derived", "warn", "a DICOM series computed from another one (DERIVED, SECONDARY)"),
    Rule("duplicate_slices", "warn", "DICOM slices that are there twice, dropped; how many"),
    # How it lies
    Rule("orientation", "ok", "direction in which each array axis grows"),
    Rule("no_orientation", "refuse", "no usable qform or sform; allowed, LAS is assumed (an array in memory: warn)"),
    Rule("bad_affine", "warn", "the orientation in the header is unusable and is ignored"),
    Rule("affine_repaired", "warn", "the qform was taken in place of a bad sform, or its numbers were repaired; how"),
    Rule("default_affine", "warn", "the identity, or 512 pixels of exactly 1 mm: the geometry was lost; check it"),
    Rule("length_unit", "ok", "the header's unit of length where it is not the millimetre; converted"),
    Rule("qform_sform", "warn or refuse", "mm between sform and qform, over 1; refused if axis codes differ"),
    Rule("oblique", "warn", "angle to the nearest body axes, over 5 degrees"),
    Rule("gantry_tilt", "refuse", "angle by which array axes miss a right angle, over 1 degree (not resampled)"),
    Rule("missing_slices", "refuse", "holes of whole slices in a DICOM series; how many slices"),
    Rule(
        "shifted_slices",
        "warn or refuse",
        "mm that DICOM slices lie beside the line from first to last, over 0.25 pixels; refused over 1",
    ),
    Rule(
        "uneven_slices",
        "warn or refuse",
        "how far from an even grid, over 0.1 slice distances; refused over 0.5",
    ),
    Rule(
        "spacing",
        "warn",
        "voxel edges; below 0.1 mm, above 5 mm in the slice or above 12 mm between slices, or unlike in training",
    ),
    Rule(
        "coverage",
        "warn",
        "length along the body; below 90 mm or above 700 mm, or an extent unlike in training",
    ),
    Rule("few_slices", "warn or refuse", "voxels along the shortest axis; below 12, refused below 8"),
    Rule("slice_count", "warn", "slices along the body, unlike in training"),
    # What it shows
    Rule("non_finite", "warn", "share of NaN (taken as air) or infinite voxels; refused for good if over half"),
    Rule("hu_range", "warn", "lowest and highest sampled HU; below -10,000 or above 20,000"),
    Rule("padding", "warn", "a DICOM padding value that would look like anything but air, taken as air; which"),
    Rule("rescale", "warn", "DICOM without rescale slope and intercept, or with units that are not HU"),
    Rule("monochrome1", "warn", "DICOM declared inverted for display; numbers are taken as they are"),
    Rule("inverted", "refuse", "median HU of the slices' corners, 300 or more: air is bright"),
    Rule("not_hu", "refuse", "share of air (below -800 HU) under 0.5 %, or of soft tissue (-150 to 150 HU) under 2 %"),
    Rule("not_chest", "warn or refuse", "share of the body that looks like lung, under 8 %; refused under 3 %"),
    Rule("fov_fill", "warn", "share of voxels with one value like tissue's around the image, taken as air"),
    Rule("slice_order", "refuse", "slices whose true neighbour lies elsewhere in the volume; 4 or more"),
    Rule("orientation_mismatch", "refuse", "lungs, spine or trachea lie otherwise than the orientation says; which"),
    # The run
    Rule("duplicate", "warn", "the network is given the same numbers as for an earlier scan of this run; which"),
    Rule("out_of_distribution", "warn", "distance of the network's features from the training scans', over the limit"),
    Rule("demonstration_model", "warn", "the model that comes with ct3d-edge answered, or a file made from it"),
    Rule("side_output", "warn", "a map, picture or report of the scan could not be written; which option asked for it"),
    Rule("identifiers", "ok", "name and ID of the patient, with `--with-identifiers` only"),
    Rule("non_finite_output", "refused", "the network gave NaN or infinity"),
    Rule("internal", "error", "a fault of ct3d-edge; its traceback is on standard error. Please report it"),
)

ORDER = {rule.code: number for number, rule in enumerate(RULES)}


SWITCHABLE = frozenset(rule.code for rule in RULES if rule.switchable)


def permissible(codes: Iterable[str]) -> list[str]:
    """Those of some codes that ``--allow`` takes, each once, in the order of the table."""
    return sorted(SWITCHABLE.intersection(codes), key=ORDER.__getitem__)


def check_codes(codes: Iterable[str]) -> frozenset[str]:
    """Codes that ``--allow`` was given.

    Raises
    ------
    UsageError
        For one that does not exist, or that leaves nothing to go on with.
    """
    codes = frozenset(codes)
    for code in sorted(codes):
        if code not in ORDER:
            raise UsageError(f"There is no finding {code}. Those that can be allowed: {', '.join(permissible(ORDER))}.")
        if code not in SWITCHABLE:
            raise UsageError(f"{code} cannot be allowed: it leaves nothing that could be judged.")
    return codes
