"""Candidates on this device: which of them hold the parity check, what memory they add, how long a run takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.parity.parity_report import DEFAULT_PARITY_ATOL, ParityReport, require_parity
from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES, PRECISIONS, Arithmetic, Precision
from ct3d_edge.errors import CheckFailedError, ProviderError, UsageError, WorkerError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.latency.measure import Clock, StageTimer, measure_runs
from ct3d_edge.latency.system_monitor import read_peak_bytes, read_resident_bytes
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.modelfile.tensor_memory import count_input_bytes, estimate_run_bytes
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.process_pool import map_in_processes
from ct3d_edge.tuning.candidate import Candidate, CandidateResult, GraphForm, get_model_precision
from ct3d_edge.tuning.result import exceeds_memory_budget
from ct3d_edge.tuning.search_space import default_candidate, original_form

SETUP_STAGE = "open a session, first run"

KILLED_MESSAGE = "its process was killed, probably because the machine's memory does not hold it"

BYTES_PER_WEIGHT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
"""Of a weight."""


@dataclass(frozen=True)
class TuningBench:
    """The given model, the forms it has, and where they run.

    Parameters
    ----------
    given
        What every candidate must answer alike with, on ONNX Runtime's CPU provider.
    forms
        Form to model file, the given one among them; the files must be there under their paths.
    provider
        The execution provider, which must do all of the work.
    limit
        For the difference of a probability, if not each precision's own.
    """

    given: ModelFile
    forms: Mapping[GraphForm, ModelFile]
    provider: ProviderName
    limit: float | None = None

    def tolerance_for(self, precision: Arithmetic) -> float:
        """Largest difference of a probability that passes: the given file's own arithmetic is no reason for any."""
        if self.limit is not None:
            return self.limit
        return (
            DEFAULT_PARITY_ATOL
            if precision == get_model_precision(self.given)
            else PRECISION_TOLERANCES[precision].probability
        )

    @property
    def baseline(self) -> Candidate:
        """The given file as it runs where nobody chose anything."""
        return default_candidate(original_form(self.given), self.provider)

    def open(self, candidate: Candidate) -> Runner:
        """A session as the candidate describes it."""
        return _open(self.forms[candidate.form], self.provider, candidate)


@dataclass(frozen=True)
class TuningMemoryJob:
    """What a fresh process opens and runs."""

    model: ModelFile
    provider: ProviderName
    candidate: Candidate


def measure_memory(
    bench: TuningBench, wanted: Sequence[Candidate], *, on_candidate: Callable[[], None] = lambda: None
) -> list[CandidateResult]:
    """Find out what memory each candidate adds, each in a process of its own.

    Raises
    ------
    WorkerError
        The process of every candidate ended early: that is no candidate's fault alone.
    """
    results, killed = [], []
    for candidate in wanted:
        try:
            results.append(
                CandidateResult(
                    candidate, memory=_measure_candidate_memory(bench.forms[candidate.form], bench.provider, candidate)
                )
            )
        except ProviderError as error:
            results.append(CandidateResult(candidate, f"it does not run: {error}"))
        except WorkerError as error:
            results.append(CandidateResult(candidate, KILLED_MESSAGE))
            killed.append(error)
        on_candidate()
    if killed and len(killed) == len(wanted):
        raise killed[0]
    return results


def check_memory_feasible(model: ModelFile, precisions: Sequence[Precision], memory_budget: int | None) -> None:
    """Stop at a budget that does not even hold weights and a network input, before minutes of work.

    Raises
    ------
    CheckFailedError
        If it does not.
    """
    fewest = max((get_model_precision(model), *precisions), key=PRECISIONS.index)
    least = count_weights(model) * BYTES_PER_WEIGHT[fewest] + count_input_bytes(model.contract.shape)
    if memory_budget is not None and memory_budget < least:
        raise CheckFailedError(
            f"No form of this model fits into {format_bytes(memory_budget)}: its weights in {fewest} and one network "
            f"input alone take {format_bytes(least)}. Nothing was written. Give a larger `max_memory`."
        )


def count_weights(model: ModelFile) -> int:
    """Constants that nodes of the graph use, in values."""
    graph = onnx.ModelProto.FromString(model.data).graph
    used = {name for node in graph.node for name in node.input}
    return sum(prod(tensor.dims) for tensor in graph.initializer if tensor.name in used)


def drop_over_budget(
    results: Sequence[CandidateResult], memory_budget: int | None, keep: Candidate
) -> list[CandidateResult]:
    """Drop candidates over the memory limit before they are measured; ``keep`` is the baseline and stays."""
    return [
        replace(result, dropped=_describe_excess(result, memory_budget))
        if exceeds_memory_budget(result, memory_budget) and result.candidate != keep and result.dropped is None
        else result
        for result in results
    ]


def _describe_excess(result: CandidateResult, memory_budget: int | None) -> str:
    return f"it adds {format_bytes(result.memory or 0)}, the budget is {format_bytes(memory_budget or 0)}"


def check_candidate_parity(
    bench: TuningBench,
    results: Sequence[CandidateResult],
    dataset: ParityDataset,
    *,
    on_candidate: Callable[[], None] = lambda: None,
) -> list[CandidateResult]:
    """Check each candidate that is not dropped yet against the given model.

    Raises
    ------
    CheckFailedError
        The given model gives the same answer for every volume, so nothing can be verified.
    UsageError
        Fewer than eight volumes.
    """
    with Runner(bench.given, SessionRequest("cpu")) as runner:
        expected = [runner.infer(volume[None])[0] for volume in dataset.volumes]
    checked = []
    for result in results:
        checked.append(result if result.dropped else _check_one(bench, result, expected, dataset))
        on_candidate()
    return checked


def time_interleaved(
    bench: TuningBench,
    results: Sequence[CandidateResult],
    volume: NDArray[np.float32],
    rounds: int,
    *,
    clock: Clock | None = None,
    on_round: Callable[[], None] = lambda: None,
) -> list[CandidateResult]:
    """Time those that hold, one run of each in every round, so that a drift of the machine meets all alike.

    A candidate's session is opened for its turn, run once uncounted, then timed and closed: sessions that are open
    together share memory and cores, and the waiting threads of one disturb the other.

    Parameters
    ----------
    volume
        ``contract.shape`` float32.
    """
    running = [result for result in results if result.dropped is None]

    def one_round(_: int, timer: StageTimer) -> None:
        for result in running:
            with bench.open(result.candidate) as runner:
                runner.infer(volume[None])
                timer.lap(SETUP_STAGE)
                runner.infer(volume[None])
                timer.lap(result.candidate.name)

    taken = measure_runs(one_round, rounds if running else 0, warmup=1, clock=clock, progress=lambda *_: on_round())
    return [replace(result, samples=taken.counted.get(result.candidate.name, ())) for result in results]


def time_providers(
    choices: Sequence[tuple[TuningBench, Candidate]],
    volume: NDArray[np.float32],
    rounds: int,
    on_round: Callable[[], None] = lambda: None,
) -> dict[ProviderName, tuple[float, ...]]:
    """Durations in ms of one candidate of each provider, timed as `time_interleaved` does."""

    def one_round(_: int, timer: StageTimer) -> None:
        for bench, candidate in choices:
            with bench.open(candidate) as runner:
                runner.infer(volume[None])
                timer.lap(SETUP_STAGE)
                runner.infer(volume[None])
                timer.lap(bench.provider)

    taken = measure_runs(one_round, rounds, warmup=1, progress=lambda *_: on_round())
    return {bench.provider: taken.counted[bench.provider] for bench, _ in choices}


def _check_one(
    bench: TuningBench,
    result: CandidateResult,
    expected: Sequence[NDArray[np.float64]],
    dataset: ParityDataset,
) -> CandidateResult:
    limit = bench.tolerance_for(result.candidate.arithmetic)
    try:
        with bench.open(result.candidate) as runner:
            answers = [runner.infer(volume[None])[0] for volume in dataset.volumes]
            pairs = list(zip(expected, answers, strict=True))
            parity = ParityReport.from_outputs(pairs, runner, description=dataset.description, limit=limit)
    except ProviderError as error:
        return replace(result, dropped=f"it does not run: {error}")
    if not parity.passed:
        return replace(result, dropped=f"the parity check fails: {_describe_failure(parity)}")
    require_parity(parity)
    return replace(result, difference=parity.probability_difference)


def _describe_failure(parity: ParityReport) -> str:
    flips = f"{parity.label_flips} label flips"
    return f"probability differs by {parity.probability_difference:.1e} (limit {parity.limit:.0e}), {flips}"


def measure_memory_as_given(model: ModelFile, provider: ProviderName = "cpu") -> int:
    """Bytes that session and runs of a file add where nobody chose anything; the file must be there under its path.

    Raises
    ------
    ProviderError
        The provider does not run it.
    WorkerError
        The process that measures ended early.
    """
    return _measure_candidate_memory(model, provider, default_candidate(original_form(model), provider))


def _measure_candidate_memory(model: ModelFile, provider: ProviderName, candidate: Candidate) -> int:
    """Bytes that session and runs add to a process of their own; estimated where the system does not tell."""
    # In a process that has read the model already, reading it would seem to cost nothing.
    job = TuningMemoryJob(replace(model, data=b""), provider, candidate)
    (found,) = map_in_processes(_memory_worker, [job], 1, afresh=True)
    return len(model.data) + estimate_run_bytes(model.data, model.contract.shape) if found is None else found


def _memory_worker(job: TuningMemoryJob) -> int | None:
    before = read_resident_bytes()
    model = load_model_file(job.model.path)
    if model.sha256 != job.model.sha256:
        raise UsageError(f"{model.path} was changed while it was measured. Tune again when nobody writes to it.")
    with _open(model, job.provider, job.candidate) as runner:
        for _ in range(2):
            runner.infer(np.zeros((1, *model.contract.shape), np.float32))
    peak = read_peak_bytes()
    return None if peak is None or before is None else max(0, peak - before)


def _open(model: ModelFile, provider: ProviderName, candidate: Candidate) -> Runner:
    options = parse_options(provider, tuple(f"{key}={value}" for key, value in candidate.options))
    return Runner(model, SessionRequest(provider, threads=candidate.threads, options=options))
