"""How volumes reach a session: as arrays, or through buffers that stay on the device."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Feed = Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]
"""From ``(N, *input_shape)`` to ``(N, length)`` of each output, all float32."""


def plain_feed(session: ort.InferenceSession, input_name: str, outputs: Sequence[str]) -> Feed:
    """Hand arrays to ONNX Runtime, which copies them to where they are needed."""

    def run(volumes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        found = session.run(list(outputs), {input_name: volumes})
        return [np.asarray(output, np.float32) for output in found]

    return run


class BoundFeed:
    """Inputs and outputs in buffers allocated once: no allocation in a run, and addresses that a CUDA graph may keep.

    Threads that call it at the same time wait for each other, as there is one set of buffers.

    Parameters
    ----------
    session
        An open session.
    input_name, input_shape
        The graph's input and its shape without the batch axis.
    outputs
        Those of the graph's outputs that are wanted, and their lengths.
    batch
        Volumes in each run. A longer input is cut, a shorter one is filled up with zeros whose answers are dropped.
    place
        Device and its number, as ONNX Runtime names them: ``("cuda", 0)``, ``("cpu", 0)``.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        input_name: str,
        input_shape: tuple[int, ...],
        outputs: Mapping[str, int],
        batch: int,
        place: tuple[str, int],
    ) -> None:
        self._session = session
        self._batch = batch
        self._alone = threading.Lock()
        self._staging = np.zeros((batch, *input_shape), np.float32)
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(self._staging.shape, np.float32, *place)
        self._outputs = [
            ort.OrtValue.ortvalue_from_shape_and_type((batch, length), np.float32, *place)
            for length in outputs.values()
        ]
        self._binding: Any = session.io_binding()
        self._binding.bind_ortvalue_input(input_name, self._input)
        for name, value in zip(outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def __call__(self, volumes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run volumes of any number."""
        starts = range(0, len(volumes), self._batch)
        with self._alone:
            parts = [self._run(volumes[start : start + self._batch]) for start in starts]
        if not parts:
            return [np.zeros((0, *output.shape()[1:]), np.float32) for output in self._outputs]
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]

    def _run(self, part: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if len(part) < self._batch:
            self._staging[: len(part)] = part
            self._staging[len(part) :] = 0
            part, length = self._staging, len(part)
        else:
            length = self._batch
        self._input.update_inplace(np.ascontiguousarray(part))
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return [np.array(output.numpy()[:length], np.float32) for output in self._outputs]
