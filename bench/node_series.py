"""Small DICOM series, as many as are wanted."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SLICES = 12
SIZE = 24


def write_small_series(folder: Path, uid: str) -> list[Path]:
    """Write a series of noise that no other UID has; its files."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(int(uid.rpartition(".")[2]))
    voxels = random.integers(0, 2000, (SLICES, SIZE, SIZE), dtype=np.uint16)
    return [_write_slice(folder / f"{index:03}.dcm", plane, index, uid) for index, plane in enumerate(voxels)]


def _write_slice(path: Path, plane: np.ndarray[tuple[int, ...], np.dtype[np.uint16]], index: int, uid: str) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{uid}.{index + 1}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{uid}.0", uid
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName, dataset.PatientID = "Phantom", uid
    dataset.InstanceNumber, dataset.ImagesInAcquisition = index + 1, SLICES
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0.0, 0.0, index * 8.0]
    dataset.PixelSpacing = [3.0, 2.0]
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelData = plane.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path
