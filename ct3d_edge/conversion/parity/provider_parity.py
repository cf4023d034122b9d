"""The parity check of a file on every provider: which provider runs it, and answers as its reference does."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.graph_variant import GraphVariant
from ct3d_edge.conversion.parity.accuracy_bisect import ParityFailure
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.parity.parity_report import DEFAULT_PARITY_ATOL, ParityReport, ReferenceFn, require_parity
from ct3d_edge.conversion.parity.tensor_parity import TensorParity, compare_tensors
from ct3d_edge.conversion.pooled_output import check_feature_parity
from ct3d_edge.doctor.smoke_test_process import check_provider
from ct3d_edge.errors import CheckFailedError, ModelError, ProviderError
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.modelfile.model_file import ModelFile, attach_metadata, parse_graph
from ct3d_edge.providers.availability import find_provider_issue, get_provider
from ct3d_edge.providers.names import PROVIDERS, ProviderName
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import WHOLE_GRAPH_PROVIDERS

LocateFailure = Callable[[ParityFailure], str]
"""Where a parity check fails, to a sentence that names the step and node that make the difference."""

MAX_TENSOR_VOLUMES = 2
"""Of the parity check, on how many the tensors between input and output are compared."""

MAX_REASON_LENGTH = 200
"""Characters of an error's text that are kept."""

PROVIDER_ERROR_PREFIX = "Provider {name} cannot do the work here. {name}: "
"""How an error begins whose provider is named anyway."""


@dataclass(frozen=True)
class ProviderScreening:
    """Which providers run a file and answer as its reference does.

    Parameters
    ----------
    required
        Providers whose failure refuses the file.
    on_stage
        Called with a sentence for each excluded provider.
    excluded
        Provider to the reason why the file is not for it.
    """

    required: Sequence[str]
    on_stage: Callable[[str], None]
    excluded: dict[str, str] = field(default_factory=dict)

    def open(self, file: ModelFile, name: ProviderName, stack: ExitStack) -> Runner | None:
        """A session that has run once; None on a provider that cannot run the file."""
        try:
            runner = stack.enter_context(Runner(file, SessionRequest(name)))
            runner.infer(make_phantom_volume(1, file.contract.shape)[None])
        except (ModelError, ProviderError) as error:
            self.exclude(name, "cannot run it", error)
            return None
        return runner

    def passes_check(self, name: ProviderName, check: Callable[[], None]) -> bool:
        """Whether a check of the provider's answers passes; a provider that fails it is excluded."""
        try:
            check()
        except CheckFailedError as error:
            self.exclude(name, "answers wrongly", error)
        return name not in self.excluded

    def exclude(self, name: ProviderName, how: str, error: Exception) -> None:
        """Note that the file is not for a provider; the error goes on if it is a required one."""
        if name in self.required:
            raise error
        text = str(error).replace("No file was written. ", "").removeprefix(PROVIDER_ERROR_PREFIX.format(name=name))
        self.excluded[name] = f"{how}: {shorten(text, MAX_REASON_LENGTH, placeholder=' ...')}"
        self.on_stage(f"the file is not for {name}: it {self.excluded[name]}")


@dataclass(frozen=True, eq=False)
class OutputComparison:
    """Proofs, one of each runner, and for each the volume on which it is furthest off."""

    parity_reports: tuple[ParityReport, ...]
    worst: tuple[NDArray[np.float32], ...]


def find_working_providers() -> tuple[ProviderName, ...]:
    """Providers on which a file is checked: the CPU, and all others that run a tiny network here."""
    others = [name for name in PROVIDERS if name != "cpu" and find_provider_issue(get_provider(name)) is None]
    return ("cpu", *(name for name in others if check_provider(name).runs))


def compare_outputs(reference: ReferenceFn, runners: Sequence[Runner], dataset: ParityDataset) -> OutputComparison:
    """Let all runners answer each volume, which exists once.

    Raises
    ------
    UsageError
        With fewer than eight volumes.
    """
    expected: list[NDArray[np.float64]] = []
    found: list[list[NDArray[np.float64]]] = [[] for _ in runners]
    worst = [np.empty(0, np.float32) for _ in runners]
    largest = [-1.0 for _ in runners]
    for volume in dataset.volumes:
        expected.append(reference(volume))
        for number, runner in enumerate(runners):
            found[number].append(runner.infer(volume[None])[0])
            gap = float(np.nan_to_num(np.abs(found[number][-1] - expected[-1]), nan=np.inf).max())
            if gap > largest[number]:
                worst[number], largest[number] = volume, gap
    made = partial(
        ParityReport.from_outputs,
        material=dataset.material,
        scans=dataset.scans,
        limit=DEFAULT_PARITY_ATOL if dataset.limit is None else dataset.limit,
        truth=dataset.truth,
    )
    pairs = [list(zip(expected, answers, strict=True)) for answers in found]
    return OutputComparison(tuple(made(p, runner) for p, runner in zip(pairs, runners, strict=True)), tuple(worst))


def check_all_providers(
    out: Path,
    variant: GraphVariant,
    contract: Contract,
    golden: GoldenTest,
    reference: ReferenceFn,
    dataset: ParityDataset,
    providers: Sequence[ProviderName],
    locate_failure: LocateFailure,
    screening: ProviderScreening,
) -> tuple[tuple[ParityReport, ...], str, dict[str, Any]]:
    """Parity reports of all providers and, last, of simulated fp16; ONNX Runtime's version; pooled features."""
    first: list[NDArray[np.float32]] = []
    watched = replace(dataset, volumes=_record_first(dataset.volumes, first))
    files = [(parse_graph(out, variant.proto), name) for name in providers]
    if variant.fp16_simulated is not None:
        attach_metadata(variant.fp16_simulated, contract, golden, {})
        files.append((parse_graph(out, variant.fp16_simulated), "cpu"))
    with ExitStack() as stack:
        opened = [(screening.open(file, name, stack), name, number) for number, (file, name) in enumerate(files)]
        running = [(runner, name, number) for runner, name, number in opened if runner is not None]
        compared = compare_outputs(reference, [runner for runner, *_ in running], watched)
        screening.on_stage("comparing tensors")
        batches = [volume.reshape(1, *contract.input_shape) for volume in first]
        parity_reports, good = [], []
        for decided, worst, (runner, name, number) in zip(
            compared.parity_reports, compared.worst, running, strict=True
        ):
            parity = replace(decided, rehearsed=number >= len(providers), weakness=_limitation(variant, decided))
            ask = partial(locate_failure, ParityFailure(worst, name, parity.rehearsed))
            if not screening.passes_check(name, partial(require_parity, parity, ask)):
                continue
            if name not in WHOLE_GRAPH_PROVIDERS and (parity.rehearsed or variant.fp16_simulated is None):
                parity = replace(parity, tensors=_compare_tensors_on(variant, batches, name, screening))
                if not screening.passes_check(name, partial(require_parity, parity, ask)):
                    continue
            parity_reports.append(parity)
            good.append(runner)
        # Last: a parity check that fails says more, the step to blame and the limit that would have passed.
        pooled = check_feature_parity(variant, good, first)
        return tuple(parity_reports), good[0].run_report.onnxruntime, pooled


def _limitation(variant: GraphVariant, parity: ParityReport) -> str | None:
    """Why agreement says little: real scans move the numbers of a reduced precision further than phantoms do."""
    reasons = [parity.weakness] if parity.weakness else []
    if parity.scans == 0 and has_reduced_precision(variant):
        reasons.append(
            f"only phantoms were compared, no real scan: on real scans this {_reduced_precision(variant)} file may be "
            f"further off than {parity.limit:.0e}. Compare it on scans: `parity_data=FOLDER`"
        )
    return "; ".join(reasons) or None


def _reduced_precision(variant: GraphVariant) -> str:
    return variant.precision if variant.precision != "fp32" else "fp16-weight"


def has_reduced_precision(variant: GraphVariant) -> bool:
    """Whether a graph computes, or stores weights, in fewer bits than float32."""
    return variant.precision != "fp32" or "weights" in variant.provenance.get("precision", {})


def _compare_tensors_on(
    variant: GraphVariant, batches: Iterable[NDArray[np.float32]], on: ProviderName, screening: ProviderScreening
) -> TensorParity | None:
    """None on a provider that runs the file, but not with its tensors as outputs: the answers are its proof."""
    try:
        return compare_tensors(
            variant.fp32,
            variant.debug_graph,
            batches,
            limit=variant.tolerance.tensor,
            open_outputs=partial(IntermediateOutputs, on=on),
        )
    except (ModelError, ProviderError):
        if on in screening.required:
            raise
        screening.on_stage(f"{on} does not show its tensors; the parity check there is on the probabilities alone")
        return None


def _record_first(
    volumes: Iterable[NDArray[np.float32]], first: list[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Pass volumes on and keep the first few."""
    for volume in volumes:
        if len(first) < MAX_TENSOR_VOLUMES:
            first.append(volume)
        yield volume
