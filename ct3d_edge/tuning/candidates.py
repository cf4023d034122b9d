"""What there is to choose from: forms of the graph, threads, options of the provider."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.conversion.optimize import optimize_model
from ct3d_edge.conversion.passes import Target
from ct3d_edge.conversion.plan import Plan
from ct3d_edge.errors import GateError, ModelError
from ct3d_edge.machine import usable_cores
from ct3d_edge.provider_names import ProviderName
from ct3d_edge.runtime import ModelFile, load_model_file
from ct3d_edge.tuning.candidate import LEVELS, Candidate, Level, Settings

TARGETS: dict[ProviderName, Target] = {"cuda": "cuda", "tensorrt": "tensorrt", "nv-tensorrt-rtx": "tensorrt"}
"""What the passes call a provider's kind of device; ``cpu`` where nothing is said."""

SETTINGS: dict[ProviderName, tuple[Settings, ...]] = {
    "cpu": ((), (("allow_spinning", "0"),), (("enable_cpu_mem_arena", "0"),)),
    "cuda": ((), (("cudnn_conv_algo_search", "EXHAUSTIVE"),), (("prefer_nhwc", "1"),)),
    "tensorrt": ((), (("trt_cuda_graph_enable", "1"),)),
}
"""Only those that change no arithmetic by intention: TF32 or bfloat16 is for whoever asks for it."""


@dataclass(frozen=True, eq=False)
class Forms:
    """The given model and what the passes made of it.

    Parameters
    ----------
    models
        Level to the file that came of it; ``none`` is the given one.
    dropped
        Level to the reason why there is no file of it.
    """

    models: dict[Level, ModelFile]
    dropped: dict[Level, str]


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all the cores: in between there is little to be found, and much to be measured."""
    powers = [2**n for n in range(cores.bit_length()) if 2**n < cores]
    return (*powers, cores)


def candidates(
    levels: Iterable[Level], provider: ProviderName, cores: int | None = None, precision: str = "fp32"
) -> tuple[Candidate, ...]:
    """All combinations, in what the given file computes in; threads matter on the CPU alone."""
    cores = cores or usable_cores()
    threads = thread_counts(cores) if provider == "cpu" else (cores,)
    settings = SETTINGS.get(provider, ((),))
    return tuple(
        Candidate(level, count, chosen, precision) for level in levels for count in threads for chosen in settings
    )


def standard(provider: ProviderName, cores: int | None = None, precision: str = "fp32") -> Candidate:
    """The given file as it runs where nobody chose anything."""
    return candidates(("none",), provider, cores, precision)[-len(SETTINGS.get(provider, ((),)))]


def make_forms(
    model: ModelFile,
    folder: Path,
    provider: ProviderName,
    volumes: Callable[[], Iterable[NDArray[np.float32]]],
    *,
    material: str,
    limit: float,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Forms:
    """Rewrite the given model at every level above its own; each file is proven before it is written.

    Parameters
    ----------
    folder
        Where the files go; named by their level.
    volumes
        Gives the proof's network inputs, anew at each call.
    material, limit
        As in `prove`.

    Raises
    ------
    UsageError
        Too few volumes, or the folder cannot be written to.
    """
    forms = Forms({"none": model}, {})
    graphs = {_graph(model): "the given file"}
    target = TARGETS.get(provider, "cpu")
    for level in _levels_above(model, target):
        on_stage(f"rewriting: {level}")
        path = folder / f"{level}.onnx"
        plan = Plan(level, target, explain=model.features is not None)
        try:
            optimize_model(model, path, volumes(), material=material, limit=limit, plan=plan)
        except (GateError, ModelError) as error:
            forms.dropped[level] = str(error)
            continue
        made = load_model_file(path)
        if same := graphs.get(_graph(made)):
            forms.dropped[level] = f"the same graph as {same}"
            continue
        graphs[_graph(made)], forms.models[level] = level, made
    return forms


def _levels_above(model: ModelFile, target: Target) -> tuple[Level, ...]:
    """Levels that the model does not have yet for this device class."""
    asked = model.provenance.get("optimize")
    own = asked.get("level") if isinstance(asked, dict) and asked.get("target") == target else None
    return LEVELS[LEVELS.index(own) + 1 if own in LEVELS else 1 :]


def _graph(model: ModelFile) -> bytes:
    return bytes(onnx.ModelProto.FromString(model.data).graph.SerializeToString(deterministic=True))
