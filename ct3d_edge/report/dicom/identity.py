"""UIDs of the objects made here: the same for the same prediction of the same files, on any machine, at any time."""

import json
import uuid
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import UID

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.report.deidentify import deidentify_flags, remove_run_flags
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.loader import content_sha256

UID_NAMESPACE = uuid.UUID("61426a19-c977-4fa6-a602-59ed417ee124")
"""Of the UIDs made here; a random number, drawn once."""

REPORT_SERIES_NUMBER, CAPTURE_SERIES_NUMBER, MAP_SERIES_NUMBER = 9901, 9902, 9903
"""Behind the scanner's own series where a viewer sorts by number."""

NON_CLINICAL_NOTICE = "NOT FOR CLINICAL USE"

CHARACTER_SET = "ISO_IR 192"
"""UTF-8. Labels and sentences may hold any letter; what was read of patient and study is written anew."""


def make_uid(record: ResultRecord, model: str, what: str) -> UID:
    """A UID made of everything that a report states of the scan itself (PS3.5, B.2), whatever other scans its run had.

    The version of ct3d-edge is among it: the object states it, and other content under one UID would be refused or
    replaced by archives.

    Parameters
    ----------
    model
        Name of the model.
    what
        Which object of the prediction.
    """
    fields = record.to_dict()
    content = [fields[key] for key in ("scan_sha256", "model_sha256", "contract_sha256", "allowed", "probability")]
    flags = deidentify_flags(remove_run_flags(record))
    return _hash_uid(json.dumps([what, model, version("ct3d-edge"), record.actual, content, flags]))


def make_device_uid(record: ResultRecord) -> UID:
    """The UID of a model."""
    return _hash_uid(record.model_sha256 + record.contract_sha256)


def _hash_uid(key: str) -> UID:
    return UID(f"2.25.{uuid.uuid5(UID_NAMESPACE, key).int}")


def has_uid(path: Path, uid: UID) -> bool:
    """Whether a file is the object with this UID."""
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    except Exception:  # there is none, or something else by that name
        return False
    return bool(found.get("SOPInstanceUID") == uid)


def describe_equipment(record: ResultRecord, model: str) -> dict[str, Any]:
    """What made an object, as arguments of highdicom's classes."""
    return {
        "manufacturer": "ct3d-edge",
        "manufacturer_model_name": model[:64],
        "software_versions": version("ct3d-edge"),
        "device_serial_number": record.model_sha256,
    }


def require_unmodified(record: ResultRecord, check_cancelled: Callable[[], None]) -> None:
    """Check that a series is the predicted one: else a prediction could be stored in the study of another patient.

    Raises
    ------
    UnreadableScanError
        ``modified_during_read`` if it is not.
    """
    scan = Path(record.scan)
    if content_sha256(scan, check_cancelled) != record.scan_sha256:
        raise UnreadableScanError(
            "modified_during_read", f"{scan.name} was modified after it was predicted. Run it again."
        )
