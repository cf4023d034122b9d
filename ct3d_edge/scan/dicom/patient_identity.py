"""Who the patient is. Read only where a person asked for it."""

from pathlib import Path

from pydicom import dcmread

from ct3d_edge.scan.dicom.pixel_storage import open_dicom
from ct3d_edge.scan.dicom.tags import read_text, without_warnings


def patient_identity(file: Path) -> tuple[str, str]:
    """Patient's name and ID of a DICOM file; empty where it gives none."""
    with without_warnings(), open_dicom(file) as stream:
        dataset = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=["PatientName", "PatientID"])
        return read_text(dataset, "PatientName"), read_text(dataset, "PatientID")
