"""Candidates on this device: which of them pass the parity check, and how long a run takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.parity.parity_report import DEFAULT_PARITY_ATOL, ParityReport, require_parity
from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES, Arithmetic
from ct3d_edge.errors import ProviderError
from ct3d_edge.latency.measure import Clock, StageTimer, measure_runs
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.tuning.candidate import Candidate, CandidateResult, GraphForm, get_model_precision
from ct3d_edge.tuning.search_space import default_candidate, original_form

SETUP_STAGE = "open a session, first run"


@dataclass(frozen=True)
class TuningBench:
    """The given model, the forms it has, and where they run.

    Parameters
    ----------
    given
        The reference of the parity check, run by ONNX Runtime's CPU provider.
    forms
        Form to model file, the given one included; the files must exist at their paths.
    provider
        The execution provider, which must do all of the work.
    limit
        Largest difference of a probability; None for that of each precision.
    """

    given: ModelFile
    forms: Mapping[GraphForm, ModelFile]
    provider: ProviderName
    limit: float | None = None

    def tolerance_for(self, precision: Arithmetic) -> float:
        """Largest difference of a probability that passes; small where the arithmetic is that of the given file."""
        if self.limit is not None:
            return self.limit
        return (
            DEFAULT_PARITY_ATOL
            if precision == get_model_precision(self.given)
            else PRECISION_TOLERANCES[precision].probability
        )

    @property
    def baseline(self) -> Candidate:
        """The given file with default settings."""
        return default_candidate(original_form(self.given), self.provider)

    def open(self, candidate: Candidate) -> Runner:
        """A session as the candidate describes it."""
        return open_candidate(self.forms[candidate.form], self.provider, candidate)


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
        The given model has the same output for every volume, so nothing can be verified.
    UsageError
        Fewer than eight volumes are given.
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
    """Time the candidates that are not dropped, one run of each in every round.

    Parameters
    ----------
    volume
        ``contract.shape`` float32.
    """
    turns = [(result.candidate.name, bench, result.candidate) for result in results if result.dropped is None]
    samples = _time_turns(turns, volume, rounds, on_round, clock)
    return [replace(result, samples=samples.get(result.candidate.name, ())) for result in results]


def time_providers(
    choices: Sequence[tuple[TuningBench, Candidate]],
    volume: NDArray[np.float32],
    rounds: int,
    on_round: Callable[[], None] = lambda: None,
) -> dict[ProviderName, tuple[float, ...]]:
    """Durations in ms of one candidate of each provider, timed as `time_interleaved` does."""
    samples = _time_turns(
        [(bench.provider, bench, candidate) for bench, candidate in choices], volume, rounds, on_round
    )
    return {bench.provider: samples[bench.provider] for bench, _ in choices}


def _time_turns(
    turns: Sequence[tuple[str, TuningBench, Candidate]],
    volume: NDArray[np.float32],
    rounds: int,
    on_round: Callable[[], None],
    clock: Clock | None = None,
) -> Mapping[str, tuple[float, ...]]:
    """Durations in ms by name, one run of each in every round, so that a drift of the machine affects all equally.

    A session is opened for its turn, run once uncounted, then timed and closed: sessions that are open together share
    memory and cores, and the waiting threads of one disturb the other.
    """

    def one_round(_: int, timer: StageTimer) -> None:
        for name, bench, candidate in turns:
            with bench.open(candidate) as runner:
                runner.infer(volume[None])
                timer.lap(SETUP_STAGE)
                runner.infer(volume[None])
                timer.lap(name)

    taken = measure_runs(one_round, rounds if turns else 0, warmup=1, clock=clock, progress=lambda *_: on_round())
    return taken.counted


def _check_one(
    bench: TuningBench,
    result: CandidateResult,
    expected: Sequence[NDArray[np.float64]],
    dataset: ParityDataset,
) -> CandidateResult:
    limit = bench.tolerance_for(result.candidate.arithmetic)
    try:
        with bench.open(result.candidate) as runner:
            predicted = [runner.infer(volume[None])[0] for volume in dataset.volumes]
            pairs = list(zip(expected, predicted, strict=True))
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


def open_candidate(model: ModelFile, provider: ProviderName, candidate: Candidate) -> Runner:
    """A session on a provider with the threads and options of a candidate."""
    options = parse_options(provider, tuple(f"{key}={value}" for key, value in candidate.options))
    return Runner(model, SessionRequest(provider, threads=candidate.threads, options=options))
