"""A model file on an execution provider: the session that turns network inputs into probabilities."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
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
from ct3d_edge.providers.names import RequestedProvider
from ct3d_edge.providers.options import Options
from ct3d_edge.session.provider_selection import SessionRequest, make_run_report, select_and_open
from ct3d_edge.session.session import IoBinding, RunFn, run_with_arrays
from ct3d_edge.temperature_scaling import apply_temperature


def to_probabilities(output: NDArray[np.float32], contract: Contract) -> NDArray[np.float64]:
    """Apply what the contract says is still missing, and its temperature, and give every class its column.

    Parameters
    ----------
    output
        ``(N, contract.outputs)`` network output.

    Returns
    -------
    ndarray
        ``(N, len(contract.labels))`` float64. NaN stays NaN.
    """
    values = output.astype(np.float64)
    if contract.activation == "sigmoid":
        values = 1 / (1 + np.exp(-np.clip(values / contract.temperature, -700, 700)))
    if contract.activation == "softmax":
        powers = np.exp((values - values.max(axis=1, keepdims=True)) / contract.temperature)
        values = powers / powers.sum(axis=1, keepdims=True)
    columns = np.hstack([1 - values, values]) if contract.outputs == 1 else values
    return apply_temperature(columns, contract.temperature) if contract.activation == "identity" else columns


class ModelOutputs(NamedTuple):
    """What a network gave for a batch: ``(N, classes)``; if it tells, ``(N, C, a, b, c)`` and, pooled, ``(N, C)``."""

    probabilities: NDArray[np.float64]
    features: NDArray[np.float32] | None
    pooled: NDArray[np.float32] | None


class Runner:
    """One open session. Use it as a context manager; ``infer`` is all it does.

    Parameters
    ----------
    model
        A checked model file.
    requested
        Provider asked for; ``"auto"`` takes the first of tensorrt, cuda, cpu that does the whole work.
    allow_fallback
        Permit a lesser provider, or one that leaves nodes to the CPU. The receipt says so.
    threads
        Threads within an operator on the CPU; as many as this process may use cores if None.
    options
        What is set for the provider asked for, from ``parse_options``; its defaults if None.
    device_id
        Number of the device, for every provider that has devices to choose from.
    batch
        Volumes in one run on a GPU, whose buffers are allocated once for it.
    build
        Permit a TensorRT engine to be built here and now if there is none yet; ``"auto"`` never does.
    on_build
        Called with a sentence before that takes its minutes.
    explain
        Have ``outputs`` give the features too.
    choice
        SHA-256 of the choice that model, threads and options follow; for the receipt. With ``"auto"``, the options are
        those of the provider that it was made for.

    Raises
    ------
    ProviderError
        The provider asked for is missing, cannot be loaded, or does not run every node.
    ModelError
        ONNX Runtime refuses the graph, or ``explain`` is asked of a file without features.
    UsageError
        A number of threads or volumes below one, or options without a provider they belong to.
    """

    def __init__(
        self,
        model: ModelFile,
        requested: RequestedProvider = "auto",
        *,
        allow_fallback: bool = False,
        threads: int | None = None,
        options: Options | None = None,
        device_id: int | None = None,
        batch: int = 1,
        build: bool = True,
        on_build: Callable[[str], None] = lambda _: None,
        explain: bool = False,
        choice: str | None = None,
    ) -> None:
        if explain and model.features is None:
            raise ModelError(
                f"{model.path} has no output to explain its answers by. Make a file that has one: "
                "ct3d-edge export --model MODEL.keras --out MODEL.onnx --with-gradcam-output"
            )
        self._explain = explain
        request = SessionRequest(
            requested, allow_fallback, threads, options, device_id, batch, build, on_build, choice=choice
        )
        opened = select_and_open(model, request)
        self.model = model
        self.config = opened.config
        self._batch = (batch if model.batch_axis else 1) if opened.config.options.gpu else None
        # A plugin takes and gives arrays in the machine's memory; what lies on its device is its own affair.
        self._place = ("cuda", opened.config.options.device_number) if opened.config.options.gpu else ("cpu", 0)
        self._held: tuple[ort.InferenceSession, RunFn] | None = (opened.session, self._make_run_fn(opened.session))
        self.run_report = make_run_report(model, requested, opened, self._batch, choice)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the session and its memory; what it is asked for afterwards is a `UsageError`."""
        self._held = None

    @property
    def _session(self) -> ort.InferenceSession:
        return self._open_parts()[0]

    @property
    def _feed(self) -> RunFn:
        return self._open_parts()[1]

    def _open_parts(self) -> tuple[ort.InferenceSession, RunFn]:
        if self._held is None:
            raise UsageError(f"The session of {self.model.path} was closed. Open the model again.")
        return self._held

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
            into pieces (``--optimize small``, or ``fast`` for ``cpu``) runs them in turn: a batch needs the memory of
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
        return self._probabilities(self._raw_outputs(volumes)[0])

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
        session = self._session
        with self._failures():
            (found,) = session.run([self.model.output_name], {self.model.input_name: voxels, **scaling})
        return np.asarray(found, np.float64)

    def outputs(self, volumes: NDArray[np.float32]) -> ModelOutputs:
        """Probabilities as ``infer`` gives them, and the features behind them, volume by volume.

        Features are None unless the session was opened with ``explain``, pooled ones unless the model gives them.
        Raises as ``infer`` does.
        """
        if not self._explain and self.model.pooled is None:
            return ModelOutputs(self.infer(volumes), None, None)
        answers, *pooled = self._raw_outputs(volumes) if not self._explain else self._run_with_features(volumes)
        features = pooled.pop() if self._explain else None
        return ModelOutputs(self._probabilities(answers), features, pooled[0] if pooled else None)

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
        device, number = self._place
        batch = volumes.reshape(-1, *self.contract.input_shape)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self.model.input_name, ort.OrtValue.ortvalue_from_numpy(batch, device, number))
        binding.bind_output(self.model.output_name, device, number)

        def run() -> ort.OrtValue:
            with self._failures():
                self._session.run_with_iobinding(binding)
                binding.synchronize_outputs()
            return binding.get_outputs()[0]

        return run

    def _check_volumes(self, volumes: NDArray[np.float32]) -> None:
        if self.model.stored_voxels:
            reject_stored_voxels(self.model.path)
        if volumes.dtype != np.float32 or volumes.shape[1:] != self.contract.shape:
            raise ModelError(
                f"The model takes float32 (N, {', '.join(map(str, self.contract.shape))}); "
                f"got {volumes.dtype} {volumes.shape}."
            )

    @property
    def _output_lengths(self) -> dict[str, int]:
        """What is asked of every run: the answer, and pooled features of a model that gives them."""
        pooled = {} if self.model.pooled is None else {POOLED_OUTPUT: self.model.pooled}
        return {self.model.output_name: self.contract.outputs, **pooled}

    def _raw_outputs(self, volumes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self._check_volumes(volumes)
        batch = volumes.reshape(-1, *self.contract.input_shape)
        if self._batch is not None or not self.model.runs_batch_sequentially or len(batch) <= 1:
            return self._run(batch)
        rows = [self._run(batch[n : n + 1]) for n in range(len(batch))]
        return [np.concatenate(part) for part in zip(*rows, strict=True)]

    def _probabilities(self, answers: NDArray[np.float32]) -> NDArray[np.float64]:
        if answers.ndim != 2 or answers.shape[1] != self.contract.outputs:
            raise ModelError(
                f"{self.model.path} promises an output of shape ('batch', {self.contract.outputs}) and gives "
                f"{answers.shape}. Export the model again."
            )
        return to_probabilities(answers, self.contract)

    def _run_with_features(self, volumes: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The same with the features behind."""
        self._check_volumes(volumes)
        size = self._batch or (len(volumes) if self.model.batch_axis and not self.model.runs_batch_sequentially else 1)
        rows = [self._run_padded(volumes[start : start + size], size) for start in range(0, len(volumes), size)]
        return [np.concatenate(part) for part in zip(*rows, strict=True)]

    def _run_padded(self, part: NDArray[np.float32], size: int) -> list[NDArray[np.float32]]:
        """Every output of volumes, filled up with zeros to the number that the session was made for."""
        batch = np.zeros((size, *self.contract.input_shape), np.float32)
        batch[: len(part)] = part.reshape(-1, *self.contract.input_shape)
        session = self._session
        with self._failures():
            found = session.run([*self._output_lengths, FEATURES_OUTPUT], {self.model.input_name: batch})
        return [np.asarray(output[: len(part)], np.float32) for output in found]

    def _run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        feed = self._feed
        with self._failures():
            return feed(batch)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ProviderError(f"ONNX Runtime failed on {self.run_report.actual} while running: {error}") from error

    def _make_run_fn(self, session: ort.InferenceSession) -> RunFn:
        if self._batch is None or self.model.stored_voxels:
            return run_with_arrays(session, self.model.input_name, list(self._output_lengths))
        shape = self.contract.input_shape
        return IoBinding(session, self.model.input_name, shape, self._output_lengths, self._batch, self._place)
