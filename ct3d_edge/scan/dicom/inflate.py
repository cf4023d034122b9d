"""A deflated DICOM file, which pydicom inflates as a whole: only if there is memory for it."""

import io
import zlib
from pathlib import Path

from ct3d_edge.errors import UnreadableScan
from ct3d_edge.formatting import format_bytes
from ct3d_edge.machine import available_memory

SHARE = 1 / 8
"""Of the available memory, what a file may take inflated: pydicom copies it, and so does whoever decodes it."""

PIECE = 1 << 14
"""Bytes inflated at a time; they become 17 MB at most."""


class Inflatable(io.BufferedReader):
    """A file in which reading all that is left, which pydicom does before it inflates that, may be refused."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path = path

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.BufferedReader.read`.

        Raises
        ------
        UnreadableScan
            ``too_large`` if all of the rest is asked for and would inflate to more than `SHARE`.
        """
        data = super().read(size)
        available = available_memory()
        if (size is None or size < 0) and available is not None:
            _refuse_bomb(data, SHARE * available, self._path.name)
        return data


def _refuse_bomb(deflated: bytes, limit: float, name: str) -> None:
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for begin in range(0, len(deflated), PIECE):
        try:
            total += len(inflater.decompress(deflated[begin : begin + PIECE]))
        except zlib.error:  # whoever inflates it will say so
            return
        if total > limit:
            raise UnreadableScan(
                "too_large", f"{name} is {format_bytes(len(deflated))} that inflate to more than {format_bytes(limit)}."
            )
