"""A model file on an execution provider: the session that turns network inputs into probabilities."""

from types import TracebackType
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ct3d_edge.calibration import temper
from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError, ProviderError, UsageError
from ct3d_edge.machine import usable_cores
from ct3d_edge.provider_names import RequestedProvider
from ct3d_edge.runtime import providers
from ct3d_edge.runtime.feed import BoundFeed, Feed, plain_feed
from ct3d_edge.runtime.model_file import ModelFile
from ct3d_edge.runtime.options import OPTIONS, Options, default_options
from ct3d_edge.runtime.providers import Provider, provider
from ct3d_edge.runtime.receipt import Receipt
from ct3d_edge.runtime.session import Refusal, Setup, open_session, placement


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

    Raises
    ------
    ProviderError
        The provider asked for is missing, cannot be loaded, or does not run every node.
    ModelError
        ONNX Runtime refuses the graph.
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
    ) -> None:
        _check_numbers(threads, batch)
        _check_owner(requested, options)
        self.model = model
        self._threads = threads or usable_cores()
        self._options = options
        self._device_id = device_id
        self._batch = batch if model.batch_axis else 1
        self._session, self.receipt = self._open(requested, allow_fallback)
        self._feed = self._feed_for(provider(self.receipt.actual))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._feed, self._session

    @property
    def contract(self) -> Contract:
        """The model's contract."""
        return self.model.contract

    def infer(self, volumes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities of a batch.

        Parameters
        ----------
        volumes
            ``(N, *contract.shape)`` float32 in [0, 1], as ``preprocess`` makes them. A model made with
            ``--optimize small`` runs them in turn: a batch needs the memory of one.

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
        if volumes.dtype != np.float32 or volumes.shape[1:] != self.contract.shape:
            raise ModelError(
                f"The model takes float32 (N, {', '.join(map(str, self.contract.shape))}); "
                f"got {volumes.dtype} {volumes.shape}."
            )
        batch = volumes.reshape(-1, *self.contract.input_shape)
        if self.model.one_by_one and len(batch) > 1:
            output = np.concatenate([self._run(batch[n : n + 1]) for n in range(len(batch))])
        else:
            output = self._run(batch)
        return to_probabilities(output, self.contract)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return self._feed(batch)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ProviderError(f"ONNX Runtime failed on {self.receipt.actual} while running: {error}") from error

    def _open(self, requested: RequestedProvider, allow_fallback: bool) -> tuple[ort.InferenceSession, Receipt]:
        """Try providers in order until one does the work; collect why the others did not."""
        passed_over: list[tuple[str, str]] = []
        tried = providers.candidates(requested, allow_fallback=allow_fallback)
        for candidate in tried:
            try:
                providers.check(candidate)
                setup = self._setup(candidate, allow_fallback)
                session = self._session_on(setup)
                nodes = placement(session, candidate, allow_fallback=allow_fallback)
            except ProviderError as error:
                passed_over.append((candidate.name, str(error)))
            else:
                return session, self._receipt(requested, setup, passed_over, nodes)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over)
        raise ProviderError(
            f"Provider {requested} cannot do the work here. {reasons}. "
            f"This onnxruntime has: {', '.join(providers.compiled_in())}. "
            "To accept a lesser provider, add --allow-fallback."
        )

    def _setup(self, candidate: Provider, allow_fallback: bool) -> Setup:
        lesser = [other for other in providers.lesser_than(candidate) if allow_fallback or other.name == "cpu"]
        options = self._options_of(candidate)
        return Setup(
            candidate,
            options,
            [(other, self._options_of(other)) for other in lesser],
            getattr(options, "intra_op_num_threads", None) or self._threads,
            fixed={self.model.batch_axis: self._batch} if options.gpu and self.model.batch_axis else {},
        )

    def _options_of(self, candidate: Provider) -> Options:
        if isinstance(self._options, OPTIONS[candidate.name]):
            return self._options
        return default_options(candidate.name, self._device_id)

    def _feed_for(self, candidate: Provider) -> Feed:
        names = self.model.input_name, self.model.output_name
        options = self._options_of(candidate)
        if not options.gpu:
            return plain_feed(self._session, *names)
        place = ("cuda", options.device_number)
        shapes = self.contract.input_shape, self.contract.outputs
        return BoundFeed(self._session, names[0], shapes[0], names[1], shapes[1], self._batch, place)

    def _session_on(self, setup: Setup) -> ort.InferenceSession:
        try:
            return open_session(self.model.data, setup)
        except Refusal as error:
            if setup.candidate.name == "cpu":
                raise ModelError(f"ONNX Runtime cannot run {self.model.path}: {error}") from error
            raise ProviderError(f"it refused the model ({error})") from error

    def _receipt(
        self,
        requested: RequestedProvider,
        setup: Setup,
        passed_over: list[tuple[str, str]],
        nodes: dict[str, int],
    ) -> Receipt:
        return Receipt(
            requested=requested,
            actual=setup.candidate.name,
            passed_over=tuple(passed_over),
            nodes=tuple(nodes.items()),
            options=tuple(setup.options.told().items()),
            threads=setup.threads,
            onnxruntime=ort.__version__,
            model_sha256=self.model.sha256,
            contract_sha256=self.contract.sha256,
        )


def _check_numbers(threads: int | None, batch: int) -> None:
    for what, number in (("threads", threads), ("volumes in a batch", batch)):
        if number is not None and number < 1:
            raise UsageError(f"The number of {what} must be at least 1, found {number}.")


def _check_owner(requested: RequestedProvider, options: Options | None) -> None:
    if options is not None and not (requested != "auto" and isinstance(options, OPTIONS[requested])):
        raise UsageError(
            f"{type(options).__name__} do not belong to provider {requested}. Name the provider they are for."
        )


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
    return temper(columns, contract.temperature) if contract.activation == "identity" else columns
