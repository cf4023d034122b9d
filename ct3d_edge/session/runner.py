"""A model file on an execution provider: the session that turns network inputs into probabilities."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError, ProviderError, UsageError
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.modelfile.signature import (
    FEATURES_OUTPUT,
    INTERCEPT_INPUT,
    POOLED_OUTPUT,
    SLOPE_INPUT,
    STORED_VOXELS,
    VOXEL_AXES,
    reject_stored_voxels,
)
from ct3d_edge.session.provider_selection import SessionRequest, make_run_report, select_and_open
from ct3d_edge.session.session import IoBinding
from ct3d_edge.temperature_scaling import to_probabilities


class ModelOutputs(NamedTuple):
    """Outputs of a network for a batch: ``(N, classes)``; features ``(N, C, a, b, c)``, pooled ones ``(N, C)``."""

    probabilities: NDArray[np.float64]
    features: NDArray[np.float32] | None
    pooled: NDArray[np.float32] | None


class Runner:
    """One open session. Use it as a context manager; ``infer`` is all it does.

    Parameters
    ----------
    model
        A checked model file.
    request
        What is asked of the session.

    Raises
    ------
    ProviderError
        The provider asked for is missing, cannot be loaded, or does not run every node.
    ModelError
        ONNX Runtime refuses the graph, or the features for Grad-CAM are asked of a file without them.
    """

    def __init__(self, model: ModelFile, request: SessionRequest = SessionRequest()) -> None:  # noqa: B008 - frozen
        if request.gradcam and model.features is None:
            raise ModelError(
                f"{model.path} has no output from which Grad-CAM maps are computed. Make a file that has one: "
                "ct3d-edge export --model MODEL.keras --out MODEL.onnx --with-gradcam-output"
            )
        opened = select_and_open(model, request)
        self.model, self.config = model, opened.config
        self._gradcam = request.gradcam
        self._batch = (request.batch if model.batch_axis else 1) if opened.config.options.gpu else None
        # A plugin takes and gives arrays in the machine's memory, and copies them to its device itself.
        self._device = ("cuda", opened.config.options.device_number) if opened.config.options.gpu else ("cpu", 0)
        self._session: ort.InferenceSession | None = opened.session
        self._binding = self._bind(opened.session)
        self.run_report = make_run_report(model, request, opened, self._batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the session and its memory; what it is asked for afterwards is a `UsageError`."""
        self._session = self._binding = None

    @property
    def contract(self) -> Contract:
        """The model's contract."""
        return self.model.contract

    def infer(self, volumes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities of a batch. On the CPU several threads may call this at the same time.

        Parameters
        ----------
        volumes
            ``(N, *contract.shape)`` float32 in [0, 1], as ``preprocess`` makes them. On the CPU a model that was cut
            into pieces (level ``small``, or ``fast`` for ``cpu``) runs them in turn: a batch needs the memory of
            one and no more time.

        Returns
        -------
        ndarray
            ``(N, len(contract.labels))`` float64, rows adding up to one.

        Raises
        ------
        ModelError
            If the shape or dtype is not the contract's.
        ProviderError
            If ONNX Runtime fails, out of memory for instance.
        """
        return self.outputs(volumes).probabilities

    def outputs(self, volumes: NDArray[np.float32]) -> ModelOutputs:
        """Probabilities as ``infer`` gives them, and the features behind them, volume by volume.

        Features are None unless they were asked for (``gradcam``), pooled ones unless the model gives them.
        Raises as ``infer`` does.
        """
        self._check_volumes(volumes)
        batch = volumes.reshape(-1, *self.contract.input_shape)
        size = self._count_per_run(len(batch))
        rows = []
        for start in range(0, len(batch), size):
            rows.append(self._run(batch[start : start + size], size))  # noqa: PERF401 - a frame less to read
        if not rows:
            rows = [[array[:0] for array in self._run(np.zeros((size, *batch.shape[1:]), np.float32), size)]]
        found = dict(zip(self._output_names, map(np.concatenate, zip(*rows, strict=True)), strict=True))
        probabilities = self._to_probabilities(found[self.model.output_name])
        return ModelOutputs(probabilities, found.get(FEATURES_OUTPUT), found.get(POOLED_OUTPUT))

    def run_network(self, volumes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Output ``(N, contract.outputs)`` of the network itself, without the contract's activation and temperature.

        ``volumes``, of which there is at least one, and what is raised are those of ``infer``.
        """
        self._check_volumes(volumes)
        batch = volumes.reshape(-1, *self.contract.input_shape)
        size = self._count_per_run(len(batch))
        return np.concatenate([self._run(batch[i : i + size], size)[0] for i in range(0, len(batch), size)])

    def infer_stored(self, voxels: NDArray[np.int16], slope: float, intercept: float) -> NDArray[np.float64]:
        """Probabilities of one scan as it is stored, by a model with the preprocessing inside.

        Parameters
        ----------
        voxels
            ``(D, H, W)`` int16 of any size; its third, second and first axis are those of the contract's orientation.
        slope, intercept
            ``HU = voxels * slope + intercept``.

        Returns
        -------
        ndarray
            ``(len(contract.labels),)`` float64.

        Raises
        ------
        ModelError
            If the model takes network inputs, or the voxels are of another kind.
        ProviderError
            If ONNX Runtime fails.
        """
        if (
            not self.model.stored_voxels
            or voxels.dtype != np.int16
            or voxels.ndim != len(VOXEL_AXES)
            or not voxels.size
        ):
            takes = STORED_VOXELS if self.model.stored_voxels else "network inputs"
            raise ModelError(f"The model takes {takes}; got {voxels.dtype} {voxels.shape} as stored int16 (D, H, W).")
        scaling = {SLOPE_INPUT: np.array(slope, np.float32), INTERCEPT_INPUT: np.array(intercept, np.float32)}
        session = self._open_session()
        with self._failures():
            (found,) = session.run([self.model.output_name], {self.model.input_name: voxels, **scaling})
        return np.asarray(found, np.float64)

    def bind_on_device(self, volumes: NDArray[np.float32]) -> Callable[[], ort.OrtValue]:
        """A batch laid where the network runs, to be run again and again without copies in or out.

        Parameters
        ----------
        volumes
            As ``infer`` takes them.

        Returns
        -------
        callable
            Runs the network once and returns, when the device is done, its output, which is still there.
        """
        device, number = self._device
        session = self._open_session()
        batch = volumes.reshape(-1, *self.contract.input_shape)
        binding = session.io_binding()
        binding.bind_ortvalue_input(self.model.input_name, ort.OrtValue.ortvalue_from_numpy(batch, device, number))
        binding.bind_output(self.model.output_name, device, number)

        def run() -> ort.OrtValue:
            self._open_session()  # a closed one is refused
            with self._failures():
                session.run_with_iobinding(binding)
                binding.synchronize_outputs()
            return binding.get_outputs()[0]

        return run

    def _count_per_run(self, count: int) -> int:
        """Volumes in one run of the session, of so many that are asked for."""
        one_by_one = self.model.runs_batch_sequentially or self.model.batch_axis is None
        return self._batch or (1 if one_by_one else max(count, 1))

    def _check_volumes(self, volumes: NDArray[np.float32]) -> None:
        if self.model.stored_voxels:
            reject_stored_voxels(self.model.path)
        if volumes.dtype != np.float32 or volumes.shape[1:] != self.contract.shape:
            raise ModelError(
                f"The model takes float32 (N, {', '.join(map(str, self.contract.shape))}); "
                f"got {volumes.dtype} {volumes.shape}."
            )

    def _to_probabilities(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        if outputs.ndim != 2 or outputs.shape[1] != self.contract.outputs:
            raise ModelError(
                f"{self.model.path} promises an output of shape ('batch', {self.contract.outputs}) and gives "
                f"{outputs.shape}. Export the model again."
            )
        return to_probabilities(outputs, self.contract)

    @property
    def _output_names(self) -> list[str]:
        """What every run gives: the prediction, pooled features of a model that has them, features for Grad-CAM."""
        pooled = [] if self.model.pooled is None else [POOLED_OUTPUT]
        return [self.model.output_name, *pooled, *([FEATURES_OUTPUT] if self._gradcam else [])]

    def _open_session(self) -> ort.InferenceSession:
        if self._session is None:
            raise UsageError(f"The session of {self.model.path} was closed. Open the model again.")
        return self._session

    def _run(self, part: NDArray[np.float32], size: int) -> list[NDArray[np.float32]]:
        """Outputs of at most ``size`` volumes; a session with buffers is given as many as these hold."""
        session, binding = self._open_session(), self._binding
        with self._failures():
            if binding is not None:
                return binding.run(part)
            batch = part
            if self._batch is not None and len(part) < size:
                batch = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), np.float32)])
            found = session.run(self._output_names, {self.model.input_name: batch})
            return [np.asarray(output[: len(part)], np.float32) for output in found]

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ProviderError(f"ONNX Runtime failed on {self.run_report.actual} while running: {error}") from error

    def _bind(self, session: ort.InferenceSession) -> IoBinding | None:
        """Buffers on a GPU for what every run gives; none on the CPU, or where features for Grad-CAM are wanted."""
        if self._batch is None or self.model.stored_voxels or self._gradcam:
            return None
        lengths = {self.model.output_name: self.contract.outputs}
        if self.model.pooled is not None:
            lengths[POOLED_OUTPUT] = self.model.pooled
        return IoBinding(session, self.model.input_name, self.contract.input_shape, lengths, self._batch, self._device)
