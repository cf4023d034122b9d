"""What is known of the memory of all candidates before any of them is made, and after each was weighed."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import onnx

from ct3d_edge.conversion.precision.tolerances import PRECISIONS, Precision
from ct3d_edge.errors import CheckFailedError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.modelfile.tensor_memory import count_input_bytes
from ct3d_edge.tuning.candidate import Candidate, CandidateResult, get_model_precision
from ct3d_edge.tuning.result import exceeds_memory_budget

BYTES_PER_WEIGHT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
"""Of a weight."""


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
