"""NIfTI files byte by byte, so that every field can be made wrong."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.errors import ScanError
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.scan.volume import Scan

AFFINE = np.diag([-2.0, 2.0, 8.0, 1.0])
HEADER = {1: 348, 2: 540}
"""Bytes of a header by the version of NIfTI."""

GAP = 4
"""Bytes between a header and the voxels of a single file: no extension follows."""


WriteNifti = Callable[..., Path]


def code_of(path: Path) -> str:
    """Code of the error of reading a NIfTI file, whose message names the file."""
    with pytest.raises(ScanError) as caught:
        read_nifti(path)
    assert path.stem in str(caught.value)
    return caught.value.code


def flags_of(volume: Scan) -> list[str]:
    """Codes of its quality flags."""
    return [flag.code for flag in volume.flags]


@pytest.fixture
def voxels() -> NDArray[np.int16]:
    """(6, 5, 4) int16, every voxel different."""
    return np.arange(-60, 60, dtype=np.int16).reshape(6, 5, 4)


def header_bytes(voxels: NDArray[Any], endian: Literal["<", ">"], version: int, fields: dict[str, object]) -> bytes:
    """Header of a single file with an sform; ``fields`` are set last and may be anything."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=endian)
    header.set_data_dtype(voxels.dtype.newbyteorder(endian))
    header.set_data_shape(voxels.shape)
    header["vox_offset"] = int(header["sizeof_hdr"]) + GAP
    header.set_sform(AFFINE, 1)
    header["scl_slope"], header["scl_inter"] = 1, 0
    for name, value in fields.items():
        header[name] = value
    return bytes(header.binaryblock)


@pytest.fixture
def write_nifti(tmp_path: Path, voxels: NDArray[np.int16]) -> WriteNifti:
    """Write a NIfTI file and give its path.

    ``tail`` follows the voxels, ``cut`` keeps that many bytes before compression, other keywords set header
    fields. Compressed if the name ends in .gz; a name ending in .hdr or .img writes a pair.
    """
    default = voxels

    def write(
        name: str = "scan.nii",
        voxels: NDArray[Any] = default,
        *,
        endian: Literal["<", ">"] = "<",
        version: int = 1,
        gap: bytes = bytes(GAP),
        tail: bytes = b"",
        cut: int | None = None,
        **fields: object,
    ) -> Path:
        path = tmp_path / name
        body = voxels.astype(voxels.dtype.newbyteorder(endian)).tobytes("F") + tail
        if path.suffix.lower() in (".hdr", ".img"):
            pair = {"magic": b"ni1" if version == 1 else b"ni2\0\r\n\x1a\n", "vox_offset": 0}
            header, image = (".HDR", ".IMG") if path.suffix.isupper() else (".hdr", ".img")
            path.with_suffix(header).write_bytes(header_bytes(voxels, endian, version, pair | fields)[:cut])
            path.with_suffix(image).write_bytes(body)
            return path
        data = (header_bytes(voxels, endian, version, fields) + gap + body)[:cut]
        path.write_bytes(gzip.compress(data, 1, mtime=0) if name.lower().endswith(".gz") else data)
        return path

    return write
