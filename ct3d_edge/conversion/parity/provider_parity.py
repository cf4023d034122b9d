"""The parity check of a model file on every provider that works on this machine."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.conversion.extra_outputs.pooled_output import check_feature_parity
from ct3d_edge.conversion.graph_variant import GraphVariant
from ct3d_edge.conversion.parity.accuracy_bisect import ParityFailure
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.parity.parity_report import (
    DEFAULT_PARITY_ATOL,
    OutputPair,
    ParityReport,
    ReferenceFn,
    require_parity,
)
from ct3d_edge.conversion.parity.tensor_parity import TensorParity, compare_tensors
from ct3d_edge.doctor.smoke_test_process import check_provider
from ct3d_edge.errors import CheckFailedError, ModelError, ProviderError
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.model_file import ModelFile, attach_metadata, parse_graph
from ct3d_edge.providers.availability import find_provider_issue, get_provider
from ct3d_edge.providers.names import PROVIDERS, ProviderName
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import WHOLE_GRAPH_PROVIDERS

LOGGER = logging.getLogger(__name__)

LocateFailure = Callable[[ParityFailure], str]
"""Describes a failed parity check in a sentence: the step and the node that cause the difference."""

MAX_TENSOR_VOLUMES = 2
"""Number of volumes on which tensors between input and output are compared."""

MAX_REASON_LENGTH = 200
"""Characters of an error message in the provenance."""

PROVIDER_ERROR_PREFIX = "Provider {name} cannot do the work here. {name}: "
"""Beginning of an error message that is removed, since the provider is named already."""


@dataclass(frozen=True)
class ProviderScreening:
    """Providers on which a file passes the parity check, and those that are excluded.

    Parameters
    ----------
    required
        Providers on which it must pass.
    excluded
        Provider to the reason why the file is not for it.
    """

    required: Sequence[str]
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
        """Whether a check on the provider passes; a provider that fails it is excluded."""
        try:
            check()
        except CheckFailedError as error:
            self.exclude(name, "predicts wrongly", error)
        return name not in self.excluded

    def exclude(self, name: ProviderName, how: str, error: Exception) -> None:
        """Exclude a provider; for a required one, raise the error."""
        if name in self.required:
            raise error
        text = str(error).replace("No file was written. ", "").removeprefix(PROVIDER_ERROR_PREFIX.format(name=name))
        self.excluded[name] = f"{how}: {shorten(text, MAX_REASON_LENGTH, placeholder=' ...')}"
        LOGGER.warning("the file is not for %s: it %s", name, self.excluded[name])


def find_working_providers() -> tuple[ProviderName, ...]:
    """Providers on which a file is checked: the CPU, and all others that run a small network on this machine."""
    others = [name for name in PROVIDERS if name != "cpu" and find_provider_issue(get_provider(name)) is None]
    return ("cpu", *(name for name in others if check_provider(name).runs))


@dataclass(frozen=True, eq=False)
class OutputComparison:
    """The parity report of each runner, and for each the volume with the largest difference."""

    parity_reports: tuple[ParityReport, ...]
    worst: tuple[NDArray[np.float32], ...]


def compare_outputs(reference: ReferenceFn, runners: Sequence[Runner], dataset: ParityDataset) -> OutputComparison:
    """Predict each volume with all runners, one volume in memory at a time.

    Raises
    ------
    UsageError
        With fewer than eight volumes.
    """
    pairs: list[list[OutputPair]] = [[] for _ in runners]
    worst = [(-1.0, np.empty(0, np.float32)) for _ in runners]
    for volume in dataset.volumes:
        expected = reference(volume)
        for number, runner in enumerate(runners):
            found = runner.infer(volume[None])[0]
            pairs[number].append((expected, found))
            difference = float(np.nan_to_num(np.abs(found - expected), nan=np.inf).max())
            worst[number] = max(worst[number], (difference, volume), key=lambda entry: entry[0])
    reports = [
        ParityReport.from_outputs(
            outputs,
            runner,
            description=dataset.description,
            scans=dataset.scans,
            limit=DEFAULT_PARITY_ATOL if dataset.limit is None else dataset.limit,
            truth=dataset.truth,
        )
        for outputs, runner in zip(pairs, runners, strict=True)
    ]
    return OutputComparison(tuple(reports), tuple(volume for _, volume in worst))


@dataclass(frozen=True, eq=False)
class ProviderParity:
    """The parity check of a file on every provider that runs it.

    Parameters
    ----------
    reports
        Parity reports: that of the CPU first, that of simulated float16 last.
    onnxruntime
        ONNX Runtime's version.
    pooled_features
        Provenance of the check of pooled features; empty for a file without.
    excluded
        Provider to the reason why the file is not for it.
    """

    reports: tuple[ParityReport, ...]
    onnxruntime: str
    pooled_features: dict[str, Any]
    excluded: dict[str, str]

    def to_provenance(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        first, *others = (report.to_dict() for report in self.reports)
        return {
            "proof": {**first, **self.pooled_features, "onnxruntime": self.onnxruntime},
            **({"not_for": self.excluded} if self.excluded else {}),
            **({"further_proofs": others} if others else {}),
        }


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A session of the file on a provider, or of float16 simulated in float32 on the CPU."""

    runner: Runner
    provider: ProviderName
    simulated: bool


def check_all_providers(
    model: ModelFile,
    variant: GraphVariant,
    reference: ReferenceFn,
    dataset: ParityDataset,
    screening: ProviderScreening,
    providers: Sequence[ProviderName],
    locate_failure: LocateFailure,
) -> ProviderParity:
    """Compare a file that is not written yet with its reference on each provider.

    Raises
    ------
    CheckFailedError, ModelError, ProviderError
        A required provider fails.
    UsageError
        With fewer than eight volumes.
    """
    first: list[NDArray[np.float32]] = []
    dataset = replace(dataset, volumes=_record_first(dataset.volumes, first))
    files: list[tuple[ModelFile, ProviderName]] = [(model, name) for name in providers]
    if variant.fp16_simulated is not None:
        attach_metadata(variant.fp16_simulated, model.contract, model.golden, {})
        files.append((parse_graph(model.path, variant.fp16_simulated), "cpu"))
    with ExitStack() as stack:
        opened = [(screening.open(file, name, stack), name, file is not model) for file, name in files]
        candidates = [_Candidate(runner, name, simulated) for runner, name, simulated in opened if runner is not None]
        compared = compare_outputs(reference, [candidate.runner for candidate in candidates], dataset)
        check = partial(_check_candidate, variant, first, screening, locate_failure)
        reports = list(map(check, candidates, compared.parity_reports, compared.worst))
        good = [candidate.runner for candidate, report in zip(candidates, reports, strict=True) if report]
        # Last: a failed parity check has the better message, with the cause and the smallest limit that would pass.
        pooled = check_feature_parity(variant, good, first)
        passed = tuple(report for report in reports if report)
        return ProviderParity(passed, good[0].run_report.onnxruntime, pooled, screening.excluded)


def _check_candidate(
    variant: GraphVariant,
    volumes: Sequence[NDArray[np.float32]],
    screening: ProviderScreening,
    locate_failure: LocateFailure,
    candidate: _Candidate,
    report: ParityReport,
    worst: NDArray[np.float32],
) -> ParityReport | None:
    """The complete report of one session, tensors included; None if its provider is excluded."""
    name = candidate.provider
    report = replace(report, simulated=candidate.simulated, weakness=_limitation(variant, report))
    locate = partial(locate_failure, ParityFailure(worst, name, candidate.simulated))
    if not screening.passes_check(name, partial(require_parity, report, locate)):
        return None
    if name in WHOLE_GRAPH_PROVIDERS or (variant.fp16_simulated is not None and not candidate.simulated):
        return report
    batches = [volume.reshape(1, *candidate.runner.contract.input_shape) for volume in volumes]
    report = replace(report, tensors=_compare_tensors_on(variant, batches, name, screening))
    return report if screening.passes_check(name, partial(require_parity, report, locate)) else None


def _limitation(variant: GraphVariant, parity: ParityReport) -> str | None:
    """Why passing says little: with a reduced precision, real scans differ more than phantoms."""
    reasons = [parity.weakness] if parity.weakness else []
    if parity.scans == 0 and variant.has_reduced_precision:
        reasons.append(
            f"only phantoms were compared, no real scan: on real scans this {variant.stored_precision} file may "
            f"differ by more than {parity.limit:.0e}. Compare it on scans: `parity_data=FOLDER`"
        )
    return "; ".join(reasons) or None


def _compare_tensors_on(
    variant: GraphVariant, batches: Iterable[NDArray[np.float32]], on: ProviderName, screening: ProviderScreening
) -> TensorParity | None:
    """Compare tensors; None on a provider that cannot give them as outputs: there only probabilities are checked."""
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
        LOGGER.info("%s cannot give its tensors as outputs: only probabilities are checked there", on)
        return None


def _record_first(
    volumes: Iterable[NDArray[np.float32]], first: list[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Yield volumes, and collect the first few."""
    for volume in volumes:
        if len(first) < MAX_TENSOR_VOLUMES:
            first.append(volume)
        yield volume
