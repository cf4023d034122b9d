"""Read the header of a MetaImage file: .mha, or .mhd with its voxels in another file.

Source: https://itk.org/Wiki/ITK/MetaIO/Documentation. Positions are LPS+ mm, as everywhere in ITK.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError
from ct3d_edge.scan.gzip_reader import ScanReader
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.text_header import affine_from_axes, header_error, read_header_bytes, resolve_voxel_file
from ct3d_edge.scan.volume import VolumeHeader, require_volume_shape

LAST_FIELD = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*)(?:\r?\n|$)", re.MULTILINE)
"""The field that ends the header; voxels follow directly if it is ``LOCAL``."""

DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}

LPS_TO_RAS = (-1.0, -1.0, 1.0)

UNKNOWN_MODALITIES = ("", "MET_MOD_UNKNOWN", "MET_MOD_OTHER", "MET_MOD_CT")
"""Modalities that do not rule out CT."""


def read_metaimage_header(path: Path) -> VolumeHeader:
    """Read the header of a .mha or .mhd file.

    Raises
    ------
    UnreadableScanError
        The file is missing, empty or not MetaImage; ``bad_header``: its voxels lie outside its folder, in several files
        or in text, or a field is impossible.
    RefusedScanError
        It is not one volume of real numbers.
    """
    data = read_header_bytes(path)
    last = LAST_FIELD.search(data)
    fields = _parse_fields(data[: last.start()]) if last else {}
    if last is None or "DimSize" not in fields:
        raise header_error(path, f"is not a MetaImage file (it begins with bytes {data[:4].hex(' ')})")
    named = last.group(1).decode("utf-8", "replace").strip()
    local = named.upper() == "LOCAL"
    voxel_path = path if local else resolve_voxel_file(path, named)
    try:
        sizes = [int(size) for size in fields["DimSize"].split()]
        shape, dtype = require_volume_shape(sizes, path.name), _dtype(fields, path)
        affine, flags = _affine(fields, len(sizes))
        compressed = _is_true(fields, "CompressedData")
        start = last.end() if local else 0
        start += _header_size(fields, voxel_path, math.prod(shape) * dtype.itemsize, compressed=compressed)
    except (ValueError, OverflowError) as error:
        raise header_error(path, f"has an impossible field ({error})") from error
    encoding = "zlib" if compressed else "raw"
    flags += _modality_flags(fields)
    return VolumeHeader(shape, dtype, voxel_path, 0, affine, flags, start=start, encoding=encoding)  # type: ignore[arg-type]


def _parse_fields(header: bytes) -> dict[str, str]:
    lines = (line.partition("=") for line in header.decode("utf-8", "replace").splitlines())
    return {name.strip(): value.strip() for name, separator, value in lines if separator}


def _is_true(fields: dict[str, str], name: str, default: str = "False") -> bool:
    return fields.get(name, default)[:1] in ("T", "t", "1")


def _dtype(fields: dict[str, str], path: Path) -> np.dtype[Any]:
    kind = fields.get("ElementType", "")
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    if kind not in DTYPES or channels != 1:
        raise RefusedScanError(
            "unsupported_dtype", f"{path.name} stores {channels} x {kind or 'nothing'}; a CT has real numbers."
        )
    if not _is_true(fields, "BinaryData", "True"):
        raise header_error(path, "has its voxels in text; write them in binary form")
    scale = (
        float(fields.get("ElementToIntensityFunctionSlope", 1)),
        float(fields.get("ElementToIntensityFunctionOffset", 0)),
    )
    if scale != (1.0, 0.0):
        raise header_error(path, f"scales its numbers by {scale}, which ITK ignores; write HU")
    big = _is_true(fields, "BinaryDataByteOrderMSB") or _is_true(fields, "ElementByteOrderMSB")
    return np.dtype(DTYPES[kind]).newbyteorder(">" if big else "<")


def _affine(fields: dict[str, str], rank: int) -> tuple[NDArray[np.float64] | None, tuple[QCFlag, ...]]:
    """The affine; None if the header does not state the direction of its axes."""
    given = next((fields[name] for name in ("TransformMatrix", "Rotation", "Orientation") if name in fields), None)
    if given is None:
        return None, ()
    spacing = _numbers(fields, ("ElementSpacing", "ElementSize"), [1.0] * rank)
    origin = _numbers(fields, ("Offset", "Position", "Origin"), [0.0] * rank)
    directions = np.array(given.split(), np.float64).reshape(rank, rank)[:3, :3]  # one row for each array axis
    with np.errstate(all="ignore"):  # what is not finite is rejected later
        return affine_from_axes(directions.T * np.array(spacing[:3]), np.array(origin[:3]), LPS_TO_RAS)


def _numbers(fields: dict[str, str], names: tuple[str, ...], default: list[float]) -> list[float]:
    given = next((fields[name] for name in names if name in fields), None)
    values = default if given is None else [float(value) for value in given.split()]
    if len(values) != len(default):
        raise ValueError(f"{names[0]} has {len(values)} numbers, not {len(default)}")
    return values


def _header_size(fields: dict[str, str], voxel_path: Path, voxel_bytes: int, *, compressed: bool) -> int:
    """Bytes before the voxels in their file; -1 in the header: the voxels are at its end."""
    size = int(fields.get("HeaderSize", "0"))
    if size >= 0 or compressed:
        return max(size, 0)
    with ScanReader(voxel_path, encoding="raw") as stream:
        return max(stream.size - voxel_bytes, 0)


def _modality_flags(fields: dict[str, str]) -> tuple[QCFlag, ...]:
    modality = fields.get("Modality", "")
    if modality.upper() in UNKNOWN_MODALITIES:
        return ()
    name = modality.upper().removeprefix("MET_MOD_")
    return (QCFlag("not_ct", "refuse", f"The file is {name}, not CT: its numbers are no HU.", name),)
