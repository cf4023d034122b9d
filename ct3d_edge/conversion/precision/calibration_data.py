"""Volumes on which value ranges are measured: named, hashed, and none of those of the parity check."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import UsageError

MIN_CALIBRATION_VOLUMES = 4
"""Fewer say little about how far values reach."""


def volume_sha256(volume: NDArray[np.float32]) -> str:
    """SHA-256 of a network input: the same for a scan under another name or in another file format."""
    return hashlib.sha256(np.ascontiguousarray(volume).tobytes()).hexdigest()


@dataclass(eq=False)
class CalibrationData:
    """Network inputs to calibrate on, made anew, one at a time, each time they are asked for.

    Parameters
    ----------
    volumes
        Each ``contract.shape`` float32; can be gone through more than once.
    material
        What they are, in words.
    digests
        Of the volumes that were used; filled while they are.
    """

    volumes: Iterable[NDArray[np.float32]]
    material: str
    digests: dict[str, None] = field(default_factory=dict)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the volumes.

        Raises
        ------
        UsageError
            At the end, if they were fewer than four.
        """
        for volume in self.volumes:
            self.digests[volume_sha256(volume)] = None
            yield volume
        found = len(self.digests)
        if found < MIN_CALIBRATION_VOLUMES:
            raise UsageError(
                f"Calibration needs at least {MIN_CALIBRATION_VOLUMES} different volumes, found {found} "
                f"({self.material})."
            )

    def check_disjoint(self, volumes: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Pass the volumes of a parity check on, as long as none of them was calibrated on.

        Raises
        ------
        UsageError
            At the first one that was.
        """
        for number, volume in enumerate(volumes, 1):
            if volume_sha256(volume) in self.digests:
                raise UsageError(
                    f"Volume {number} of the parity check was calibrated on ({self.material}): a check on it "
                    "shows little. Name other scans with `calibration_data=` or `parity_data=`."
                )
            yield volume

    def to_dict(self) -> dict[str, object]:
        """Plain data for the provenance; the hash is of all volumes, as the network was given them."""
        whole = hashlib.sha256("\n".join(self.digests).encode()).hexdigest()
        return {"volumes": len(self.digests), "material": self.material, "sha256": whole}
