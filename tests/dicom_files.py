"""Small DICOM files made with pydicom, so that every element can be made wrong."""

import zlib  # noqa: F401 - before gdcm, whose own zlib would take its place and abort the process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

INTERCEPT = -2048
SPACING = (3.0, 2.0)
"""Distance of rows and of columns: different, so that a mix-up shows."""

STEP = 8.0
PATIENT_NAME, PATIENT_ID = "Doe^Jane", "PID-4711"


def affine(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """RAS+ affine of what `write_series` writes: columns to the left, rows to the back, slices upward."""
    matrix = np.diag([-SPACING[1], -SPACING[0], STEP, 1.0])
    matrix[:3, 3] = (20.0, 30.0, 0.0)
    return matrix


def ct_dataset(plane: NDArray[np.integer[Any]], index: int, series: str) -> Dataset:
    """One classic CT slice of HU ``plane`` ``(rows, columns)``, slice ``index`` of an upright axial series."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{series}.{index + 1}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{series}.0", series
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName, dataset.PatientID = PATIENT_NAME, PATIENT_ID
    dataset.InstanceNumber = index + 1
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-20.0, -30.0, index * STEP]
    dataset.PixelSpacing = list(SPACING)
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, INTERCEPT, "HU"
    set_pixels(dataset, plane - INTERCEPT, np.uint16)
    return dataset


def set_pixels(dataset: Dataset, stored: NDArray[Any], dtype: Any, bits: int | None = None) -> None:
    """Give a data set its pixels, ``([frames,] rows, columns)``, uncompressed."""
    dtype = np.dtype(dtype)
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(dtype.kind == "i")
    data = stored.astype(dtype).tobytes()
    dataset["PixelData"] = DataElement(0x7FE00010, "OW", data + bytes(len(data) % 2))


def save(dataset: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    """Write a data set as a file with preamble and meta information."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def compress(path: Path, syntax: UID) -> Path:
    """Compress a file's pixels in place, without loss."""
    kinds = {
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
        JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
        RLELossless: gdcm.TransferSyntax.RLELossless,
    }
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


def series_datasets(hu: NDArray[np.int16], series: str = "1.2.3") -> list[Dataset]:
    """Classic slices of a volume ``(i, j, k)``: columns, rows, slices."""
    return [ct_dataset(hu[:, :, k].T, k, series) for k in range(hu.shape[2])]


def write_series(folder: Path, hu: NDArray[np.int16], series: str = "1.2.3", name: str = "{:03}.dcm") -> Path:
    """Write a volume as a classic series, the uppermost slice in the first file; its folder."""
    return write_datasets(folder, series_datasets(hu, series)[::-1], name)


def write_datasets(folder: Path, datasets: Sequence[Dataset], name: str = "{:03}.dcm") -> Path:
    """Write data sets into one folder."""
    for number, dataset in enumerate(datasets):
        save(dataset, folder / name.format(number))
    return folder


def enhanced_dataset(hu: NDArray[np.int16], series: str = "1.2.3") -> Dataset:
    """A volume ``(i, j, k)`` as one file of many frames, the uppermost first."""
    dataset = ct_dataset(hu[:, :, 0].T, 0, series)
    dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedCTImageStorage, f"{series}.1"
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):
        del dataset[keyword]
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del dataset[keyword]
    shared, orientation, measures, values = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = list(SPACING)
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, INTERCEPT, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [values]
    dataset.SharedFunctionalGroupsSequence = [shared]
    order = range(hu.shape[2])[::-1]
    dataset.PerFrameFunctionalGroupsSequence = [_frame_groups(k) for k in order]
    dataset.NumberOfFrames = hu.shape[2]
    set_pixels(dataset, np.stack([hu[:, :, k].T for k in order]) - INTERCEPT, np.uint16)
    return dataset


def _frame_groups(index: int) -> Dataset:
    groups, position = Dataset(), Dataset()
    position.ImagePositionPatient = [-20.0, -30.0, index * STEP]
    groups.PlanePositionSequence = [position]
    return groups
