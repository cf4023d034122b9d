"""Inputs of all contestants: files in one folder, so that each can run in a process of its own.

keras, weights and ONNX files of one network, network inputs with the answers expected to them, scans with what they
are expected to become. `bench.make_fixture` makes the folder.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import UsageError

KINDS = ("network", "preprocessing", "file to decision")
"""Network input to probability; scan file to network input; scan file to probability."""


@dataclass(frozen=True)
class Fixture:
    """A folder made by `bench.make_fixture.make_fixture`.

    Parameters
    ----------
    folder
        Where the files lie.
    """

    folder: Path

    @property
    def keras(self) -> Path:
        """The network as a .keras file."""
        return self.folder / "network.keras"

    @property
    def weights(self) -> Path:
        """Its weights, layer by layer, as an .npz file: nobody needs Keras to read them."""
        return self.folder / "weights.npz"

    @property
    def scans(self) -> tuple[Path, ...]:
        """Scan files, in order."""
        return tuple(sorted((self.folder / "scans").iterdir()))

    def onnx(self, name: str) -> Path:
        """An ONNX file of the network: ``tf2onnx`` as converted, or rewritten: ``exact``, ``fast``, ``small``.

        ``exact_fp16`` and ``fast_fp16`` compute in float16, ``exact_int8`` and ``fast_int8`` in 8-bit integers;
        ``openvino`` and ``openvino_int8`` are ``fast`` for that target; ``voxels`` is ``fast`` with the preprocessing
        inside.

        Raises
        ------
        UsageError
            If there is none of that name.
        """
        path = self.folder / f"{name}.onnx"
        if not path.is_file():
            there = ", ".join(sorted(entry.stem for entry in self.folder.glob("*.onnx")))
            raise UsageError(f"there is no ONNX file {name!r} of the network here; there are: {there}")
        return path

    def volumes(self) -> NDArray[np.float32]:
        """Network inputs ``(n, W, H, D)`` float32; the last one's probability is far from 0 and 1."""
        return np.asarray(np.load(self.folder / "volumes.npy"))

    def calibration(self) -> NDArray[np.float32]:
        """Network inputs ``(n, W, H, D)`` float32 to calibrate on: none of those that are compared."""
        return np.asarray(np.load(self.folder / "calibration.npy"))

    def inputs(self, kind: str) -> tuple[object, ...]:
        """What a contestant of a kind is given, one after the other: network inputs ``(1, W, H, D)``, or paths."""
        return tuple(volume[None] for volume in self.volumes()) if kind == "network" else self.scans

    def answers(self, kind: str) -> NDArray[np.float32]:
        """What it is expected to answer, one row a question."""
        return np.asarray(np.load(self.folder / f"{kind}.npy"))
