"""Records that were never computed, for tests of how they are kept."""

from dataclasses import replace

from ct3d_edge.results.record import Prediction, ResultRecord, ScanFailure, Timing
from ct3d_edge.scan.qc_flag import QCFlag

ANSWERED = ResultRecord(
    scan="folder/scan.nii.gz",
    status="warn",
    prediction=Prediction("abnormal", (("normal", 0.25), ("abnormal", 0.75)), 0.5),
    failure=None,
    flags=(QCFlag("oblique", "warn", "Tilted."), QCFlag("extension_mismatch", "warn", "Renamed.")),
    timing=Timing(1.5, 2.25, 4.0),
    model_sha256="m" * 64,
    contract_sha256="c" * 64,
    requested="auto",
    actual="cpu",
    nodes=(("cpu", 5),),
    scan_sha256="f" * 64,
)

FAILED = replace(
    ANSWERED,
    status="error",
    prediction=None,
    failure=ScanFailure("truncated", "scan.nii.gz ends too early."),
    flags=(),
    timing=Timing(),
)


def raise_error(error: BaseException) -> None:
    """Raise it in another process, to which the tests send it."""
    raise error


def give_back(thing: object) -> object:
    """Send it back from another process."""
    return thing
