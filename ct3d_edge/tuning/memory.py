"""Memory of tuning candidates: how much each adds to a process, and which exceed the limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx

from ct3d_edge.conversion.precision.tolerances import PRECISIONS, Precision
from ct3d_edge.errors import CheckFailedError, ProviderError, UsageError, WorkerError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.latency.system_monitor import read_peak_bytes, read_resident_bytes
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.modelfile.tensor_memory import count_input_bytes, estimate_run_bytes
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.system.process_pool import map_in_processes
from ct3d_edge.tuning.candidate import Candidate, CandidateResult, get_model_precision
from ct3d_edge.tuning.measure import TuningBench, open_candidate
from ct3d_edge.tuning.result import exceeds_memory_budget
from ct3d_edge.tuning.search_space import default_candidate, original_form

KILLED_MESSAGE = "its process was killed, probably because the machine's memory does not hold it"

BYTES_PER_WEIGHT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class TuningMemoryJob:
    """A candidate that a new process opens and runs."""

    model: ModelFile
    provider: ProviderName
    candidate: Candidate


def measure_memory(
    bench: TuningBench, wanted: Sequence[Candidate], *, on_candidate: Callable[[], None] = lambda: None
) -> list[CandidateResult]:
    """Measure the memory that each candidate adds, each in a process of its own.

    Raises
    ------
    WorkerError
        The process of every candidate ended early, so the cause is not one of them.
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
    """Raise a `CheckFailedError` if a memory limit is below weights and one network input, before minutes of work."""
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


def measure_memory_as_given(model: ModelFile, provider: ProviderName = "cpu") -> int:
    """Bytes that session and runs of a file add with default settings; the file must exist at its path.

    Raises
    ------
    ProviderError
        The provider does not run it.
    WorkerError
        The measuring process ended early.
    """
    return _measure_candidate_memory(model, provider, default_candidate(original_form(model), provider))


def _measure_candidate_memory(model: ModelFile, provider: ProviderName, candidate: Candidate) -> int:
    """Bytes that session and runs add to a process of their own; estimated where the system does not report them."""
    # In a process that has read the model already, reading it would seem to cost nothing.
    job = TuningMemoryJob(replace(model, data=b""), provider, candidate)
    (found,) = map_in_processes(_memory_worker, [job], 1, afresh=True)
    return len(model.data) + estimate_run_bytes(model.data, model.contract.shape) if found is None else found


def _memory_worker(job: TuningMemoryJob) -> int | None:
    before = read_resident_bytes()
    model = load_model_file(job.model.path)
    if model.sha256 != job.model.sha256:
        raise UsageError(f"{model.path} was changed while it was measured. Tune again when nobody writes to it.")
    with open_candidate(model, job.provider, job.candidate) as runner:
        for _ in range(2):
            runner.infer(np.zeros((1, *model.contract.shape), np.float32))
    peak = read_peak_bytes()
    return None if peak is None or before is None else max(0, peak - before)
