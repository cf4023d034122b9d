"""Read the header of an NRRD file: .nrrd, or .nhdr with its voxels in another file.

pynrrd parses the fields; this module checks their values. Source: http://teem.sourceforge.net/nrrd/format.html.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError
from ct3d_edge.scan.gzip_reader import Encoding, ScanReader
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.text_header import affine_from_axes, header_error, read_header_bytes, resolve_voxel_file
from ct3d_edge.scan.volume import VolumeHeader, require_volume_shape

MAGIC = b"NRRD000"
BLANK_LINE = re.compile(rb"\r?\n\r?\n")
"""Ends the header of a file that holds the voxels as well."""

ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}

SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
}
"""Signs that turn positions in a space into RAS+."""

MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1e3, "um": 1e-3}

DTYPES = {
    name: dtype
    for dtype, names in {
        "i1": "signed char, int8, int8_t",
        "u1": "uchar, unsigned char, uint8, uint8_t",
        "i2": "short, short int, signed short, signed short int, int16, int16_t",
        "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        "i4": "int, signed int, int32, int32_t",
        "u4": "uint, unsigned int, uint32, uint32_t",
        "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
        "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(", ")
}

COMPONENT_KINDS = ("color", "vector", "matrix", "complex", "point", "normal", "gradient", "quaternion")
"""Ends of the kinds of an axis whose samples are the components of one voxel (``RGB-color``, ``3-vector``)."""

SERIES_KINDS = ("list", "time")
"""Kinds of an axis whose samples are volumes."""


def read_nrrd_header(path: Path) -> VolumeHeader:
    """Read the header of a .nrrd or .nhdr file.

    Raises
    ------
    UnreadableScanError
        The file is missing, empty or not NRRD; ``bad_header``: its voxels lie outside its folder, in several files, in
        text or compressed in another way than gzip, or a field is impossible.
    RefusedScanError
        It is not one volume of real numbers.
    """
    fields, end = _parse_fields(path)
    named = fields.get("data file", fields.get("datafile"))
    voxel_path = path if named is None else resolve_voxel_file(path, named)
    encoding = ENCODINGS.get(fields["encoding"].lower())
    if encoding is None:
        raise header_error(path, f"encodes its voxels as {fields['encoding']!r}; write them raw or gzip-compressed")
    try:
        shape, dtype = require_volume_shape(_spatial_sizes(fields, path), path.name), _dtype(fields, path)
        affine, flags = _affine(fields)
        start = end if named is None else 0
        voxel_bytes = math.prod(shape) * dtype.itemsize
        skipped = _skipped_bytes(fields, path, encoding, lambda: _size(voxel_path) - start - voxel_bytes)
    except (ValueError, OverflowError, IndexError) as error:
        raise header_error(path, f"has an impossible field ({error})") from error
    flags += _modality_flags(fields)
    return VolumeHeader(shape, dtype, voxel_path, skipped, affine, flags, start=start, encoding=encoding)


def _parse_fields(path: Path) -> tuple[dict[str, Any], int]:
    """The fields, and the byte at which the header ends."""
    from nrrd import read_header

    data = read_header_bytes(path)
    if not data.startswith(MAGIC):
        raise header_error(path, f"is not an NRRD file (it begins with bytes {data[:4].hex(' ')})")
    blank = BLANK_LINE.search(data)
    end = blank.end() if blank else len(data)
    try:
        fields = dict(read_header(data[:end].splitlines()))
        dimension, sizes = int(fields["dimension"]), [int(size) for size in fields["sizes"]]
        _ = fields["type"], fields["encoding"]
    except KeyError as error:
        raise header_error(path, f"lacks the field {error}") from error
    except Exception as error:  # pynrrd raises whatever the text leads it to
        raise header_error(path, f"cannot be parsed as NRRD ({error})") from error
    if dimension != len(sizes):
        raise header_error(path, f"has {dimension} dimensions and {len(sizes)} sizes")
    return fields, end


def _spatial_axes(fields: dict[str, Any]) -> list[int]:
    """Axes of space: those with a direction, or, without directions, those that are not components of a voxel."""
    directions = _directions(fields)
    if directions is not None:
        return [axis for axis, vector in enumerate(directions) if not np.isnan(vector).all()]
    kinds = fields.get("kinds", [""] * fields["dimension"])
    return [axis for axis, kind in enumerate(kinds) if not kind.lower().endswith((*COMPONENT_KINDS, *SERIES_KINDS))]


def _spatial_sizes(fields: dict[str, Any], path: Path) -> list[int]:
    """Sizes along the axes of space, then of others longer than one."""
    sizes, spatial = [int(size) for size in fields["sizes"]], _spatial_axes(fields)
    other = [axis for axis in range(len(sizes)) if axis not in spatial and sizes[axis] != 1]
    kinds = fields.get("kinds", [""] * len(sizes))
    if any(kinds[axis].lower().endswith(COMPONENT_KINDS) for axis in other):
        raise RefusedScanError("unsupported_dtype", f"{path.name} stores colours or vectors; a CT has real numbers.")
    return [*(sizes[axis] for axis in spatial), *(sizes[axis] for axis in other)]


def _dtype(fields: dict[str, Any], path: Path) -> np.dtype[Any]:
    name = DTYPES.get(fields["type"])
    if name is None:
        raise RefusedScanError("unsupported_dtype", f"{path.name} stores {fields['type']}; a CT has real numbers.")
    dtype, endian = np.dtype(name), fields.get("endian", "").lower()
    if dtype.itemsize > 1 and endian not in ("little", "big"):
        raise header_error(path, "does not state its byte order (endian)")
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _directions(fields: dict[str, Any]) -> NDArray[np.float64] | None:
    """``(axes, 3)``: the step from voxel to voxel along each axis, NaN along axes that are not of space."""
    given = fields.get("space directions")
    return None if given is None else np.asarray(given, np.float64).reshape(fields["dimension"], -1)


def _affine(fields: dict[str, Any]) -> tuple[NDArray[np.float64] | None, tuple[QCFlag, ...]]:
    """The affine; None if the header does not state the direction of its axes in a patient."""
    signs, directions = SPACES.get(fields.get("space", "").lower()), _directions(fields)
    if signs is None or directions is None:
        return None, ()
    axes = directions[_spatial_axes(fields)]
    if axes.shape != (3, 3):
        raise ValueError(f"space directions of shape {axes.shape}")
    origin = np.asarray(fields.get("space origin", [0.0] * 3), np.float64)
    scale, flags = _scale(fields)
    affine, affine_flags = affine_from_axes(axes.T * scale, origin * scale, signs)
    return affine, (*affine_flags, *flags)


def _scale(fields: dict[str, Any]) -> tuple[float, tuple[QCFlag, ...]]:
    """Millimetres in a unit of the space, and a flag if it is another unit."""
    units = set(fields.get("space units", ["mm"])) - {"", "???"} or {"mm"}
    unit = units.pop()
    if units or unit not in MM_PER_UNIT:
        raise ValueError(f"space units {[unit, *units]}")
    if unit == "mm":
        return 1.0, ()
    return MM_PER_UNIT[unit], (
        QCFlag("length_unit", "ok", f"The header's unit of length is {unit}; converted to mm.", unit),
    )


def _skipped_bytes(fields: dict[str, Any], path: Path, encoding: Encoding, all_but_voxels: Callable[[], int]) -> int:
    """Bytes before the voxels in their (decompressed) stream; -1 in the header: the voxels are at its end."""
    skipped = int(fields.get("byte skip", fields.get("byteskip", 0)))
    if int(fields.get("line skip", fields.get("lineskip", 0))) or (skipped < 0 and encoding != "raw"):
        raise header_error(path, "skips lines or compressed bytes before its voxels; write it without")
    return skipped if skipped >= 0 else max(all_but_voxels(), 0)


def _size(path: Path) -> int:
    with ScanReader(path, encoding="raw") as stream:
        return stream.size


def _modality_flags(fields: dict[str, Any]) -> tuple[QCFlag, ...]:
    """A flag if a key of the header names another modality than CT."""
    modality = next((str(value) for key, value in fields.items() if key.lower() in ("modality", "dicom_0008_0060")), "")
    if modality.upper() in ("", "CT"):
        return ()
    return (QCFlag("not_ct", "refuse", f"The file is {modality}, not CT: its numbers are no HU.", modality),)
