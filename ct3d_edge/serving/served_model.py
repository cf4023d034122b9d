"""The model of a server: one open session that several threads use at the same time."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import ProviderError
from ct3d_edge.inference.config import InferenceConfig, open_runner, resolve_model
from ct3d_edge.inference.model import Model, open_model
from ct3d_edge.inference.predict import ScanResult
from ct3d_edge.inference.predict_many import Schedule
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.modelfile.signature import INTERCEPT_INPUT, PROBABILITIES_OUTPUT, SLOPE_INPUT, VOXELS_INPUT
from ct3d_edge.serving.tensors import TensorSpec
from ct3d_edge.session.run_report import RunReport
from ct3d_edge.session.runner import Runner
from ct3d_edge.temperature_scaling import to_probabilities

LOGGER = logging.getLogger(__name__)

MAX_BATCH = 32
"""Network inputs in one request."""

Tensors = Mapping[str, NDArray[Any]]


class ServedModel(ABC):
    """A model file that is open for as long as the server runs; a context manager.

    Parameters
    ----------
    opened
        The session.
    file
        The model file.
    schedule
        How many threads use the session at the same time.
    """

    inputs: tuple[TensorSpec, ...]
    """The tensors of a request."""

    outputs: tuple[TensorSpec, ...]
    """The tensors of a response: probabilities of the contract's classes, temperature included, and the output of the
    network under its own name, as other servers of the file give it."""

    def __init__(self, opened: Model | Runner, file: ModelFile, schedule: Schedule) -> None:
        self.file, self.schedule = file, schedule
        self.failure: str | None = None
        """The last error of the session; None after a run that succeeded."""
        self._opened = opened
        self._file_state = _read_file_state(file.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @property
    def workers(self) -> int:
        """Threads that use the session at the same time."""
        return max(1, self.schedule.workers)

    @property
    def run_report(self) -> RunReport:
        """The provider that runs the network, and its settings."""
        return self._opened.run_report

    def predict_tensors(self, tensors: Tensors, *, alone: bool = False) -> dict[str, NDArray[np.float32]]:
        """The `outputs` for tensors as `inputs` describes them.

        Parameters
        ----------
        alone
            Whether no other request runs, so that this one may have all cores.

        Raises
        ------
        ProviderError
            If the session fails.
        """
        with self.watched_session():
            return {name: array.astype(np.float32) for name, array in self._run(tensors, alone).items()}

    @abstractmethod
    def _run(self, tensors: Tensors, alone: bool) -> dict[str, NDArray[Any]]:
        """The `outputs`."""

    @contextmanager
    def watched_session(self) -> Iterator[None]:
        """Remember in ``failure`` whether the session works, for the server's health."""
        try:
            yield
        except ProviderError as error:
            self.failure = str(error)
            raise
        self.failure = None

    def log_replacement(self) -> None:
        """Log, once for each change, that the file on disk is another one now; the one in memory goes on."""
        state = _read_file_state(self.file.path)
        if state != self._file_state:
            self._file_state = state
            LOGGER.warning(
                "%s was %s; this server goes on with the model that it loaded (SHA-256 %s). Start it again to use "
                "the new one.",
                self.file.path,
                "removed" if state is None else "replaced",
                self.file.sha256[:16],
            )


class ScanModel(ServedModel):
    """A model that takes network inputs, so that it predicts scans too.

    Parameters
    ----------
    model
        Runs requests side by side.
    schedule
        Of several requests.
    single
        The same model with all cores, for a request while no other one runs; None if ``model`` has them.
    computes_gradcam
        Whether maps can be asked for.
    """

    def __init__(self, model: Model, schedule: Schedule, single: Model | None, *, computes_gradcam: bool) -> None:
        super().__init__(model, model.file, schedule)
        self.model, self._single, self.computes_gradcam = model, single, computes_gradcam
        contract = model.contract
        self.inputs = (TensorSpec(model.file.input_name, "FP32", (-1, *contract.input_shape), MAX_BATCH),)
        lengths = {PROBABILITIES_OUTPUT: len(contract.labels), model.file.output_name: contract.outputs}
        self.outputs = tuple(TensorSpec(name, "FP32", (-1, length)) for name, length in lengths.items())
        for each in {model, single or model}:
            each.run_network(np.zeros((1, *contract.shape), np.float32))  # the first run allocates

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._single:
            self._single.close()

    def predict_scan(self, path: Path, timeout_s: float, *, alone: bool = False) -> ScanResult:
        """The result of one scan; its failures are in the record.

        Parameters
        ----------
        timeout_s
            Time limit in seconds.
        alone
            Whether no other request runs, so that this one may have all cores.

        Raises
        ------
        ProviderError
            If the session fails.
        """
        model = self._choose_model(alone)
        one = Schedule(0, False, model.run_report.threads or 1, 0, 1)
        with self.watched_session():
            (result,) = model.iter_results([path], one, timeout_s=timeout_s)
        return result

    def _choose_model(self, alone: bool) -> Model:
        return self._single if alone and self._single else self.model

    def _run(self, tensors: Tensors, alone: bool) -> dict[str, NDArray[Any]]:
        volumes = tensors[self.file.input_name]
        output = self._choose_model(alone).run_network(volumes.reshape(len(volumes), *self.file.contract.shape))
        return {PROBABILITIES_OUTPUT: to_probabilities(output, self.file.contract), self.file.output_name: output}


class StoredVoxelModel(ServedModel):
    """A model with the preprocessing inside: it takes voxels as they are stored, and no files."""

    inputs = (
        TensorSpec(VOXELS_INPUT, "INT16", (-1, -1, -1)),
        TensorSpec(SLOPE_INPUT, "FP32", (1,)),
        TensorSpec(INTERCEPT_INPUT, "FP32", (1,)),
    )

    def __init__(self, runner: Runner, workers: int | None) -> None:
        super().__init__(runner, runner.model, Schedule(workers or 1, True, runner.run_report.threads or 1, 0, 1))
        self._runner = runner
        self.outputs = (TensorSpec(PROBABILITIES_OUTPUT, "FP32", (len(runner.contract.labels),)),)

    def _run(self, tensors: Tensors, alone: bool) -> dict[str, NDArray[Any]]:  # noqa: ARG002
        slope, intercept = (float(tensors[name][0]) for name in (SLOPE_INPUT, INTERCEPT_INPUT))
        return {PROBABILITIES_OUTPUT: self._runner.infer_stored(tensors[VOXELS_INPUT], slope, intercept)}


def open_served_model(path: Path | None, config: InferenceConfig, workers: int | None = None) -> ServedModel:
    """Open a model file; the bundled model if ``path`` is None.

    Parameters
    ----------
    workers
        Threads that use the session at the same time; from cores and memory if None.

    Raises
    ------
    ModelError, ContractError
        If the file cannot be used.
    ProviderError
        If the provider asked for does not do the work here.
    """
    if load_model_file(resolve_model(path, config).path, stored_voxels=True).stored_voxels:
        return StoredVoxelModel(open_runner(resolve_model(path, config).path, config, stored_voxels=True), workers)
    return _open_scan_model(path, config, workers)


def _open_scan_model(path: Path | None, config: InferenceConfig, workers: int | None) -> ScanModel:
    with ExitStack() as stack:
        model = stack.enter_context(open_model(path, config))
        schedule = model.make_schedule(workers=workers)
        single = stack.enter_context(open_model(path, config)) if schedule.predict_in_workers else None
        if single and single.make_schedule(1).threads <= schedule.threads:
            single.close()
            single = None
        opened = ScanModel(model, schedule, single, computes_gradcam=config.gradcam)
        stack.pop_all()  # `opened` closes them
    return opened


def default_model_name(path: Path) -> str:
    """The name in the paths of the protocol: that of the file, or of its folder in a model repository."""
    in_repository = path.name == "model.onnx" and path.resolve().parent.name.isdecimal()
    return path.resolve().parents[1].name if in_repository else path.stem


def _read_file_state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
