"""Rerun the golden test that travels in a model file."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.runtime.golden import STEPS
from ct3d_edge.runtime.runner import Runner
from ct3d_edge.runtime.stored_voxels import as_stored


@dataclass(frozen=True)
class Verification:
    """Outcome of a golden test.

    Parameters
    ----------
    inputs
        How many were run.
    largest_difference
        Of any probability from what it was where the model was exported.
    tolerance
        What the model file allows.
    """

    inputs: int
    largest_difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the device gives the expected answers; never with a NaN."""
        return self.largest_difference <= self.tolerance


def verify(runner: Runner) -> Verification:
    """Run a model's golden inputs on an open session and compare."""
    golden = runner.model.golden
    found = np.vstack([_answer(runner, volume) for volume in golden.volumes(runner.contract.shape)])
    difference = float(np.abs(found - np.asarray(golden.expected)).max())
    return Verification(len(golden.seeds), difference, golden.tolerance)


def _answer(runner: Runner, volume: NDArray[np.float32]) -> NDArray[np.float64]:
    if runner.model.stored_voxels:
        return runner.infer_stored(*as_stored(volume, runner.contract, STEPS))
    return runner.infer(volume[None])
