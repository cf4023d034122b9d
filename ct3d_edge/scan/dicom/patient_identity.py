"""Who the patient is. Read only where a person asked for it."""

from pathlib import Path

from pydicom import dcmread

from ct3d_edge.scan.dicom.tags import quietly, text


def identity(file: Path) -> tuple[str, str]:
    """Patient's name and ID of a DICOM file; empty where it gives none."""
    with quietly():
        dataset = dcmread(file, stop_before_pixels=True, force=True, specific_tags=["PatientName", "PatientID"])
        return text(dataset, "PatientName"), text(dataset, "PatientID")
