"""From a graph and a plan to a proven file; with ``auto``, to the best one whose proof holds."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.accuracy_bisect import Failure, FindLayer, History, blame
from ct3d_edge.conversion.compile_options import Plan, rewrite
from ct3d_edge.conversion.graph_variant import Variant, make_variant
from ct3d_edge.conversion.parity import Evidence, Reference
from ct3d_edge.conversion.passes.pipeline import Target
from ct3d_edge.conversion.precision import Precision
from ct3d_edge.conversion.precision.calibration_data import Calibration
from ct3d_edge.conversion.write_model import Exported, deliver
from ct3d_edge.errors import GateError, ModelError, ProviderError
from ct3d_edge.modelfile.golden_input import golden_volume
from ct3d_edge.modelfile.golden_test import Golden
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.intermediate_outputs import Tap

TRIED: dict[Target, tuple[Precision, ...]] = {
    "cpu": ("int8", "fp32"),
    "cuda": ("fp16", "fp32"),
    "tensorrt": ("int8", "fp16", "fp32"),
    "no-conv3d": ("int8", "fp16", "fp32"),
}
"""What ``auto`` tries for a device class, in this order. ONNX Runtime's CPU provider runs float16 as float32, with
casts; its CUDA provider has no 8-bit convolutions."""

ROUNDS = 5
"""Runs of two graphs in turn, to see which one is faster."""

WORTHWHILE = 1.5
"""Times the speed of fp32 from which fewer bits are taken for it: less is not worth probabilities that move."""


@dataclass(frozen=True, eq=False)
class Job:
    """A graph on its way to becoming a file.

    Parameters
    ----------
    out
        The file to write.
    original
        The graph as it came, float32.
    contract, golden, provenance
        What the file is to carry.
    reference, volumes, material, truth
        What it is proven against, and on, as in `Evidence`; the volumes can be gone through more than once.
    limit
        For the probability; the precision's own if None.
    providers
        On which it is proven.
    calibration
        What a lower precision is calibrated on.
    on_stage
        Told what is being done.
    find_layer
        Looks into the conversion from Keras when a proof has failed.
    embed_on
        Scans on which a file with the preprocessing inside is proven; None for a file without.
    """

    out: Path
    original: onnx.ModelProto
    contract: Contract
    golden: Golden
    provenance: dict[str, Any]
    reference: Reference
    volumes: Iterable[NDArray[np.float32]]
    material: str
    limit: float | None = None
    truth: Sequence[int] | None = None
    providers: Sequence[ProviderName] = ("cpu",)
    calibration: Calibration | None = None
    on_stage: Callable[[str], None] = field(default=lambda _: None)
    find_layer: FindLayer = field(default=lambda _: "")
    embed_on: Iterable[Volume] | None = None


def build(job: Job, plan: Plan) -> Exported:
    """Rewrite, lower, prove and write.

    Raises
    ------
    ModelError, GateError, UsageError, ProviderError
        As `make_variant` and `deliver` do; with ``auto``, of what is tried last.
    """
    if plan.precision != "auto":
        return _deliver(job, plan, _variant(job, plan))
    fallen: dict[str, str] = {}
    *tried, last = TRIED[plan.target]
    for precision in tried:
        job.on_stage(f"trying {precision}")
        try:
            return _try(job, replace(plan, precision=precision), fallen)
        except (GateError, ModelError, ProviderError) as error:
            fallen[precision] = str(error)
            job.on_stage(f"{precision} is not taken: {error}")
    chosen = replace(plan, precision=last)
    return _deliver(_telling(job, last, fallen), chosen, _variant(job, chosen))


def _try(job: Job, plan: Plan, fallen: dict[str, str]) -> Exported:
    variant = _variant(job, plan)
    told: dict[str, Any] = {}
    if plan.target == "cpu":  # the device class of the machine that measures
        told["times_the_speed_of_fp32"] = _speed(variant, _variant(job, replace(plan, precision="fp32")), job.contract)
    return _deliver(_telling(job, variant.precision, fallen, told), plan, variant)


def _telling(job: Job, chosen: Precision, fallen: dict[str, str], more: dict[str, Any] | None = None) -> Job:
    told = {"asked": "auto", "chosen": chosen, "not_taken": dict(fallen), **(more or {})}
    return replace(job, provenance={**job.provenance, "precision_choice": told})


def _variant(job: Job, plan: Plan) -> Variant:
    rewritten = rewrite(job.original, plan, on_stage=job.on_stage)
    return make_variant(job.original, rewritten, plan, job.contract, job.calibration, on_stage=job.on_stage)


def _deliver(job: Job, plan: Plan, variant: Variant) -> Exported:
    limit = variant.limits.probability if job.limit is None else job.limit
    history = History(job.original, plan, variant, job.contract, job.find_layer)
    volumes = job.calibration.guard(job.volumes) if job.calibration else job.volumes
    return deliver(
        job.out,
        variant,
        job.contract,
        job.golden,
        _with_passes(job.provenance, variant.provenance),
        job.reference,
        Evidence(volumes, job.material, limit, job.truth),
        providers=job.providers,
        required=("cpu", plan.target),
        blame=lambda failure: _blame(job, history, failure, limit),
        embed_on=job.embed_on,
        on_stage=job.on_stage,
    )


def _blame(job: Job, history: History, failure: Failure, limit: float) -> str:
    job.on_stage(f"looking for what makes the difference on {failure.provider}")
    return blame(history, job.reference(failure.volume), failure, limit)


def _with_passes(provenance: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Passes of an earlier rewriting stay on record in front of those of this one."""
    return {**provenance, **made, "passes": [*provenance.get("passes", []), *made.get("passes", [])]}


def _speed(variant: Variant, single: Variant, contract: Contract) -> float:
    """Times the speed of the fp32 graph, if that is worth having."""
    volume = golden_volume(1, contract.shape).reshape(1, *contract.input_shape)
    names = [variant.proto.graph.output[0].name]
    taps = Tap(variant.proto, names), Tap(single.proto, names)
    rounds = [[_seconds(tap, volume) for tap in taps] for _ in range(ROUNDS + 1)][1:]
    ratio = round(statistics.median(single / lower for lower, single in rounds), 2)
    if ratio < WORTHWHILE:
        raise ModelError(f"it runs at {ratio} times the speed of fp32 here; less than {WORTHWHILE} is not worth it")
    return ratio


def _seconds(tap: Tap, volume: NDArray[np.float32]) -> float:
    begin = time.perf_counter()
    for _ in tap.tensors(volume):
        pass
    return time.perf_counter() - begin
