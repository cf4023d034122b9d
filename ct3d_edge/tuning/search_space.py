"""What there is to choose from: forms of the graph and precisions, threads, options of the provider."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from ct3d_edge.conversion.compiler import AUTO_PRECISIONS
from ct3d_edge.conversion.graph_variant import CompileOptions
from ct3d_edge.conversion.optimize import optimize_model
from ct3d_edge.conversion.parity.parity_data import CalibrationData, ParityDataset
from ct3d_edge.conversion.passes.pipeline import Target
from ct3d_edge.conversion.precision.tolerances import PRECISIONS, Precision
from ct3d_edge.errors import CheckFailedError, ModelError, UsageError
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.providers.options import default_options
from ct3d_edge.system.machine import count_usable_cores, detect_cpu_features
from ct3d_edge.tuning.candidate import (
    BF16_SETTING,
    LEVELS,
    Candidate,
    Filtering,
    GraphForm,
    OptimizationLevel,
    ProviderSettings,
    get_model_precision,
)

LOGGER = logging.getLogger(__name__)

PROVIDER_TARGETS: dict[ProviderName, tuple[Target, ...]] = {
    "openvino": ("openvino", "cpu"),
    "cuda": ("cuda",),
    "tensorrt": ("tensorrt",),
    "nv-tensorrt-rtx": ("tensorrt",),
}
"""What the passes call a provider's kind of device, ``cpu`` by default; several where the best form depends on the
processor. Lower precisions are made for the first one."""

OWN_LEVELS: dict[Target, tuple[OptimizationLevel, ...]] = {"openvino": ("exact", "fast")}
"""Levels of a target that differ from each other; all of them by default."""

PROVIDER_SETTINGS: dict[ProviderName, tuple[ProviderSettings, ...]] = {
    "cpu": ((), (("allow_spinning", "0"),), (("enable_cpu_mem_arena", "0"),)),
    "cuda": ((), (("cudnn_conv_algo_search", "EXHAUSTIVE"),), (("prefer_nhwc", "1"),)),
    "tensorrt": ((), (("trt_cuda_graph_enable", "1"),)),
}
"""Only options that keep the arithmetic: TF32 and bfloat16 must be requested."""

FORMS_WITHOUT_3D = (("fast", "cpu"), ("small", "cpu"), ("fast", "no-conv3d"), ("small", "no-conv3d"))
"""Level and target of files whose 3D operators are gone: none of the forms for OpenVINO can be made of them."""

REDUCED_PRECISION_LEVELS: tuple[OptimizationLevel, ...] = ("fast", "small")
"""Levels that are worth fewer bits: without their folding the chain falls back to float32 at each normalisation."""


LESS_FILTERING: tuple[Filtering, ...] = ("depth", "none")
"""Forms between `exact` and `fast`: minimal filtering along depth alone, or none."""


@dataclass(frozen=True, eq=False)
class GraphForms:
    """The given model and what the passes made of it.

    Parameters
    ----------
    models
        Form to the file that came of it; the given one is among them.
    dropped
        Form to the reason why there is no file of it.
    """

    models: dict[GraphForm, ModelFile]
    dropped: dict[GraphForm, str]


def original_form(model: ModelFile) -> GraphForm:
    """The form of a file that nothing is done to."""
    return GraphForm("none", get_model_precision(model))


def permitted_precisions(asked: Sequence[str], provider: ProviderName) -> tuple[Precision, ...]:
    """Precisions by their names, most bits first; ``any`` is those that the provider computes in by itself.

    ONNX Runtime's CPU provider runs float16 as float32 with casts: it is tried there only where it is named.
    """
    native = AUTO_PRECISIONS[_targets(provider)[0]] if "any" in asked else ()
    return tuple(name for name in PRECISIONS if name in asked or name in native)


def permits_bf16(asked: Sequence[str], provider: ProviderName) -> bool:
    """Whether sessions may round to bfloat16: only OpenVINO does, and only where the CPU has it is that faster.

    Raises
    ------
    UsageError
        It is named, and this CPU would emulate it.
    """
    native = (detect_cpu_features() or {}).get("BF16", False)
    if "bf16" in asked and provider == "openvino" and not native:
        raise UsageError("This CPU has no bfloat16 arithmetic (avx512_bf16 or amx_bf16): bf16 would be emulated.")
    return provider == "openvino" and native and not {"bf16", "any"}.isdisjoint(asked)


def list_thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and all the cores: in between there is little to be found, and much to be measured."""
    powers = [2**n for n in range(cores.bit_length()) if 2**n < cores]
    return (*powers, cores)


def generate_candidates(
    forms: Iterable[GraphForm], provider: ProviderName, cores: int | None = None, *, bf16: bool = False
) -> tuple[Candidate, ...]:
    """All combinations; threads matter where the provider keeps to a number of them. bf16 is for fp32 files."""
    cores = cores or count_usable_cores()
    threads = list_thread_counts(cores) if default_options(provider).supports_threads else (cores,)
    settings = PROVIDER_SETTINGS.get(provider, ((),))
    return tuple(
        Candidate(form.level, count, chosen, form.precision, form.target, form.filtering)
        for form in forms
        for count in threads
        for chosen in (*settings, *([(BF16_SETTING,)] if bf16 and form.precision == "fp32" else []))
    )


def default_candidate(form: GraphForm, provider: ProviderName, cores: int | None = None) -> Candidate:
    """The given file with default settings."""
    return generate_candidates((form,), provider, cores)[-len(PROVIDER_SETTINGS.get(provider, ((),)))]


def build_graph_forms(
    model: ModelFile,
    folder: Path,
    provider: ProviderName,
    dataset: ParityDataset,
    *,
    precisions: Sequence[Precision] = (),
    calibration: CalibrationData | None = None,
) -> GraphForms:
    """Rewrite the given model at every level above its own; each file is verified before it is written.

    Parameters
    ----------
    folder
        Where the files go; named by their level and precision.
    dataset
        For the parity check of each file; its volumes are iterated once a file.
    precisions
        Permitted besides the given file's own; those with more bits are not made from it.
    calibration
        What those are calibrated on.

    Raises
    ------
    UsageError
        Too few volumes, or the folder cannot be written to.
    """
    forms = GraphForms({original_form(model): model}, {})
    graphs = {_serialize_graph(model): "the given file"}
    for form in _forms_to_build(model, provider, precisions):
        LOGGER.info("rewriting: %s ...", form.name)
        path = folder / f"{form.level}-{form.precision}-{form.target}-{form.filtering}.onnx"
        try:
            made = _build_form(model, form, path, dataset, calibration)
        except (CheckFailedError, ModelError) as error:
            forms.dropped[form] = str(error)
            continue
        if same := graphs.get(_serialize_graph(made)):
            forms.dropped[form] = f"the same graph as {same}"
        else:
            graphs[_serialize_graph(made)], forms.models[form] = form.name, made
    return forms


def _build_form(
    model: ModelFile,
    form: GraphForm,
    path: Path,
    dataset: ParityDataset,
    calibration: CalibrationData | None,
) -> ModelFile:
    """Write one form of the graph; it is calibrated only if it has fewer bits than the given file."""
    lower = form.precision != get_model_precision(model)
    gradcam = model.features is not None
    if lower and gradcam:
        raise ModelError("the Grad-CAM output of the given file needs fp32")
    options = CompileOptions(
        form.level,
        form.target,
        gradcam_output=gradcam,
        precision=form.precision if lower else "fp32",
        filtering=form.filtering,
    )
    optimize_model(model, path, dataset, options=options, calibration=calibration if lower else None)
    return load_model_file(path)


def _targets(provider: ProviderName) -> tuple[Target, ...]:
    return PROVIDER_TARGETS.get(provider, ("cpu",))


def _forms_to_build(model: ModelFile, provider: ProviderName, precisions: Sequence[Precision]) -> Iterator[GraphForm]:
    own = get_model_precision(model)
    target, *others = _targets(provider)
    above = _higher_levels(model, target)
    yield from (GraphForm(level, own, target) for level in above)
    for other in others:
        yield from (GraphForm(level, own, other) for level in _higher_levels(model, other) if level != "exact")
    if "cpu" in _targets(provider) and "fast" in _higher_levels(model, "cpu"):
        yield from (GraphForm("fast", own, "cpu", filtering) for filtering in LESS_FILTERING)
    worthwhile = [level for level in REDUCED_PRECISION_LEVELS if level in OWN_LEVELS.get(target, LEVELS)]
    folded = [level for level in worthwhile if level in above]
    unchanged: list[OptimizationLevel] = ["none"] if len(folded) < len(worthwhile) else []
    for precision in precisions:
        if PRECISIONS.index(precision) > PRECISIONS.index(own):
            yield from (GraphForm(level, precision, target) for level in [*unchanged, *folded])


def _higher_levels(model: ModelFile, target: Target) -> tuple[OptimizationLevel, ...]:
    """Levels that the model does not have yet for this device class."""
    if target == "openvino" and model.optimized in FORMS_WITHOUT_3D:
        return ()
    level, made_for = model.optimized
    own = level if made_for == target else None
    above = LEVELS[LEVELS.index(own) + 1 if own in LEVELS else 1 :]
    return tuple(level for level in above if level in OWN_LEVELS.get(target, LEVELS))


def _serialize_graph(model: ModelFile) -> bytes:
    return bytes(onnx.ModelProto.FromString(model.data).graph.SerializeToString(deterministic=True))
