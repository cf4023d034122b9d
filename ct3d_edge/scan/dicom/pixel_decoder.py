"""Planes of a DICOM file as arrays: uncompressed ones read here, compressed ones decoded by pydicom's plugins.

An uncompressed plane is a run of bytes whose place is known, and reading it takes a tenth of the time that parsing
the file again would take.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import ExplicitVRBigEndian, JPEGExtended12Bit

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.scan.dicom.instance import DicomInstance
from ct3d_edge.scan.dicom.pixel_storage import PIXEL_DATA, open_dicom
from ct3d_edge.scan.dicom.tags import without_warnings
from ct3d_edge.system.machine import read_available_memory

DECODER_PLUGINS = ("gdcm", "pydicom")
"""pydicom's names of decoders, in the order of preference; any other is used where neither can."""

EIGHT_BIT_PLUGINS = ("gdcm", "pillow")
"""Decoders that read JPEG Extended of 8 bits only, by pydicom's table of plugins."""

COPIES_IN_MEMORY = 4
"""Of a plane, that decoding takes: the compressed bytes, the decoder's result, and what is made of it."""

MAX_MEMORY_FRACTION = 0.5


def require_decodable(image: DicomInstance) -> None:
    """Make sure that a file's pixels are real numbers, all there, and of a kind that can be decoded here.

    Raises
    ------
    RefusedScanError
        ``unsupported_dtype`` for colours and numbers that are no integers.
    UnreadableScanError
        ``truncated``, ``too_large``; ``missing_decoder`` if no decoder for their compression is installed.
    """
    name, storage = image.path.name, image.storage
    if image.samples != 1 or not image.photometric.startswith("MONOCHROME") or image.pixels.tag != PIXEL_DATA:
        kind = image.photometric or "an unknown kind of pixels"
        raise RefusedScanError("unsupported_dtype", f"{name} stores {kind}; a CT holds plain grey values.")
    if storage.allocated not in (8, 16, 32) or (storage.allocated == 8 and image.syntax == ExplicitVRBigEndian):
        raise RefusedScanError(
            "unsupported_dtype", f"{name} stores {storage.allocated} bits a pixel; 8, 16 or 32 are read."
        )
    size, available = image.rows * image.columns * storage.allocated // 8, read_available_memory()
    promised = 0 if image.pixels.compressed else size * (1 + max(frame.number for frame in image.frames))
    if image.pixels.offset and (not image.pixels.complete or image.pixels.length < promised):
        raise UnreadableScanError("truncated", f"{name} ends before its pixels do. Copy or export it again.")
    if available is not None and COPIES_IN_MEMORY * size > MAX_MEMORY_FRACTION * available:
        raise UnreadableScanError(
            "too_large", f"{name} needs {format_bytes(size)} a plane; {format_bytes(available)} are free."
        )
    if image.pixels.compressed:
        _require_decoder(image)


def stored_dtype(image: DicomInstance) -> np.dtype[Any]:
    """How `decode_planes` gives a file's pixels, in this machine's byte order."""
    return np.dtype(f"{'i' if image.storage.signed else 'u'}{image.storage.allocated // 8}")


def decode_planes(image: DicomInstance, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Yield frames of a file, each ``(rows, columns)``, as stored integers.

    Raises
    ------
    UnreadableScanError
        ``pixel_decode_error`` if they cannot be decoded; ``not_found``, ``unreadable`` if the file has gone meanwhile.
    """
    native = image.pixels.offset > 0 and not image.pixels.compressed
    try:
        for plane in _native_planes(image, frames) if native else _decoded_planes(image, frames):
            yield _mask_unused_bits(plane, image)
    except OSError as error:
        raise UnreadableScanError(
            "unreadable", f"{image.path.name} cannot be read: {error.strerror or error}."
        ) from error


def _native_planes(image: DicomInstance, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    dtype = stored_dtype(image).newbyteorder(">" if image.syntax == ExplicitVRBigEndian else "<")
    shape = (image.rows, image.columns)
    size = math.prod(shape) * dtype.itemsize
    with open_dicom(image.path) as stream:
        for frame in frames:
            stream.seek(image.pixels.offset + frame * size)
            data = stream.read(size)
            if len(data) < size:
                raise UnreadableScanError("truncated", f"{image.path.name} became shorter while it was read.")
            yield np.frombuffer(data, dtype).reshape(shape).astype(stored_dtype(image), copy=False)


def _decoded_planes(image: DicomInstance, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    decoded = _iterate_decoder(image, frames)
    for _ in frames:
        with without_warnings():
            plane = _next_plane(decoded, image)
        if plane.shape != (image.rows, image.columns):
            raise UnreadableScanError(
                "pixel_decode_error", f"{image.path.name} decodes to another size than its header says."
            )
        yield plane.astype(stored_dtype(image), copy=False)


def _iterate_decoder(image: DicomInstance, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    """What pydicom yields; a deflated file has no place to seek to and is inflated as a whole."""
    with open_dicom(image.path) as stream:
        source = stream if image.pixels.compressed else dcmread(stream)
        yield from iter_pixels(source, indices=list(frames), raw=True, decoding_plugin=_choose_plugin(image))


def _choose_plugin(image: DicomInstance) -> str:
    """The decoder to use: the one this was tested with, so that what else is installed changes nothing."""
    there = _capable_plugins(image)
    return next((name for name in (*DECODER_PLUGINS, *there) if name in there), "")


def _capable_plugins(image: DicomInstance) -> list[str]:
    """The installed decoders that read a file's compression and its number of bits."""
    there = get_decoder(image.syntax).available_plugins
    twelve_bit = image.syntax == JPEGExtended12Bit and image.storage.stored > 8
    return [name for name in there if not (twelve_bit and name in EIGHT_BIT_PLUGINS)]


def _next_plane(decoded: Iterator[NDArray[Any]], image: DicomInstance) -> NDArray[Any]:
    try:
        return next(decoded)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        what = f"{image.path.name} ({image.syntax.name}) cannot be decoded: {type(error).__name__}"
        raise UnreadableScanError("pixel_decode_error", f"{what}. Copy or export it again.") from error


def _mask_unused_bits(plane: NDArray[Any], image: DicomInstance) -> NDArray[Any]:
    """Only the bits that hold the pixel, with their sign; old files keep overlays in the others."""
    storage = image.storage
    above = storage.allocated - 1 - storage.high
    unused = storage.allocated - storage.stored
    return plane if unused == 0 else (plane << above) >> unused


def _require_decoder(image: DicomInstance) -> None:
    what = f"{image.path.name} is compressed as {image.syntax.name}"
    try:
        with without_warnings():
            decoder = get_decoder(image.syntax)
            if _capable_plugins(image):
                return
    except NotImplementedError as error:
        raise UnreadableScanError("missing_decoder", f"{what}, which is not read.") from error
    # GDCM comes with ct3d-edge, but decodes no high-throughput JPEG 2000 and no 12 bits of JPEG Extended.
    packages = "pylibjpeg pylibjpeg-openjpeg"
    if image.syntax == JPEGExtended12Bit:
        packages = "pylibjpeg pylibjpeg-libjpeg"
    elif any(plugin.startswith("gdcm") for plugin in decoder.missing_dependencies):
        packages = "python-gdcm"
    raise UnreadableScanError("missing_decoder", f"{what}; no decoder for it is installed: pip install {packages}")
