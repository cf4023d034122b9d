"""What runs a model fastest on this device: candidates built, checked for parity and timed in turn."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from ct3d_edge.conversion.parity.parity_data import load_calibration_data, load_parity_dataset
from ct3d_edge.errors import CheckFailedError, ProviderError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.modelfile.model_file import ModelFile, load_model_file
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.providers.names import PROVIDERS, ProviderName, TunedProvider, install_command
from ct3d_edge.session.provider_selection import SessionRequest, find_expected_provider, is_available
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.atomic_write import atomic_file, require_writable
from ct3d_edge.system.file_lock import exclusive_lock
from ct3d_edge.tuning.cache import keep_other_provider, tuned_model_path, tuning_result_path
from ct3d_edge.tuning.candidate import CandidateResult, GraphForm
from ct3d_edge.tuning.measure import (
    TuningBench,
    check_candidate_parity,
    time_interleaved,
    time_providers,
)
from ct3d_edge.tuning.memory import check_memory_feasible, drop_over_budget, measure_memory
from ct3d_edge.tuning.result import TuningResult, check_memory_budget, choose_fastest, tuning_key
from ct3d_edge.tuning.search_space import (
    GraphForms,
    build_graph_forms,
    generate_candidates,
    permits_bf16,
    permitted_precisions,
)

LOGGER = logging.getLogger(__name__)

Report = Callable[[ProviderName, Sequence[CandidateResult], Mapping[GraphForm, str]], None]
"""Given a provider, the results of all candidates, and why other forms of the graph are not among them."""


@dataclass(frozen=True)
class TuneConfig:
    """How a model is tuned.

    Parameters
    ----------
    provider
        That the choice is for; ``"auto"`` is the first, best first, that works here, ``"any"`` each that does: every
        one gets its own choice, and they are compared.
    precisions
        Permitted besides the file's own: ``"fp16"``, ``"bf16"`` (OpenVINO), ``"int8"``, or ``"any"`` that provider and
        device compute in by themselves.
    max_memory
        Bytes that a session and its runs may add; no limit if None.
    rounds
        Counted runs of each candidate, in turn.
    parity_data, calibration_data
        Folders of scans for the parity check and for calibration, none of them in both; phantoms if None.
    atol
        Largest difference of a probability; that of each precision if None.
    """

    provider: TunedProvider = "any"
    precisions: tuple[str, ...] = ()
    max_memory: int | None = None
    rounds: int = 15
    parity_data: Path | None = None
    calibration_data: Path | None = None
    atol: float | None = None


def tune(
    model: Path | str,
    config: TuneConfig = TuneConfig(),
    *,
    report: Report = lambda *_: None,
    progress: Progress = no_progress,
) -> TuningResult:
    """Find what runs a model fastest on this device, and keep the choice beside it.

    Parameters
    ----------
    model
        A .onnx file that ``export`` or ``optimize`` wrote.
    report
        Called once a provider with all results, also where no candidate is left.

    Returns
    -------
    TuningResult
        Of the provider that is fastest.

    Raises
    ------
    CheckFailedError
        No candidate stays within ``max_memory``, or none passes the parity check; nothing is written.
    UsageError, ModelError, ProviderError, WorkerError
        The model is the result of a tuning, cannot be used, or the provider does not work here.
    """
    given = load_model_file(model)
    if re.search(r"\.tuned(-[a-z-]+)?\.onnx$", given.path.name):
        raise UsageError(f"{model} is what a tuning chose. Tune the model that it was made from.")
    providers = _list_providers(config.provider, config.precisions)
    _name_missing_target(given, providers)
    for provider in providers:
        for path in (tuning_result_path(given.path, provider), tuned_model_path(given.path, provider)):
            require_writable(path)
        permits_bf16(config.precisions, provider)
        check_memory_feasible(given, permitted_precisions(config.precisions, provider), config.max_memory)
    tuned: list[tuple[TuningBench, TuningResult]] = []
    with ExitStack() as stack:
        for provider in providers:
            try:
                tuned.append(_tune_provider(given, provider, config, stack, report, progress))
            except (CheckFailedError, ProviderError) as error:
                if provider == providers[-1] and not tuned:
                    raise
                LOGGER.warning("%s is left out: %s", provider, error)
        fastest = _find_fastest(tuned, config, progress)
        for bench, choice in tuned:
            _write(replace(choice, fastest_provider=fastest), bench)
    return next(replace(choice, fastest_provider=fastest) for bench, choice in tuned if bench.provider == fastest)


def _list_providers(requested: TunedProvider, precisions: Sequence[str]) -> list[ProviderName]:
    """The provider to tune for; for ``any`` all that find their libraries and a device here."""
    providers = [name for name in PROVIDERS if is_available(name)]
    if requested != "any":
        providers = [find_expected_provider(requested)]
    if "bf16" in precisions and "openvino" not in providers:
        raise UsageError(
            f"bf16 is computed by the provider openvino, not by {', '.join(providers)}; to install it: "
            f"{install_command('openvino')}"
        )
    return providers


def _name_missing_target(given: ModelFile, providers: Sequence[ProviderName]) -> None:
    """Warn of a file for OpenVINO that is tuned without it: its form is slower everywhere else."""
    if given.optimized[1] == "openvino" and "openvino" not in providers:
        LOGGER.warning(
            "%s was made for openvino, and is tuned for %s; to install openvino: %s",
            given.path.name,
            ", ".join(providers),
            install_command("openvino"),
        )


def _tune_provider(
    given: ModelFile,
    provider: ProviderName,
    config: TuneConfig,
    stack: ExitStack,
    report: Report,
    progress: Progress,
) -> tuple[TuningBench, TuningResult]:
    """The choice for one provider; its files are there until ``stack`` ends."""
    LOGGER.info("provider %s", provider)
    stack.enter_context(exclusive_lock(tuning_result_path(given.path, provider)))
    forms = stack.enter_context(_graph_forms(given, provider, config))
    bench = TuningBench(given, forms.models, provider, config.atol)
    results = _measure_memory(bench, permits_bf16(config.precisions, provider), progress)
    try:
        check_memory_budget(results, config.max_memory)
    except CheckFailedError:
        report(provider, results, forms.dropped)
        raise
    results, parity_data = _time(bench, results, config, progress)
    report(provider, results, forms.dropped)
    return bench, _choose(bench, results, config.max_memory, parity_data)


def _find_fastest(
    tuned: Sequence[tuple[TuningBench, TuningResult]], config: TuneConfig, progress: Progress
) -> ProviderName:
    """The provider whose choice has the lowest median, all of them in turn."""
    if len(tuned) == 1:
        return tuned[0][0].provider
    LOGGER.info("timing the choices of %s in turn ...", plural(len(tuned), "provider"))
    (volume,) = islice(load_parity_dataset(config.parity_data, tuned[0][0].given.contract).volumes, 1)
    step = _steps(progress, config.rounds + 1, "Rounds")
    samples = time_providers([(bench, choice.candidate) for bench, choice in tuned], volume, config.rounds, step)
    for provider, taken in samples.items():
        LOGGER.info("%s: %.1f ms", provider, median(taken))
    return min(samples, key=lambda provider: median(samples[provider]))


@contextmanager
def _graph_forms(given: ModelFile, provider: ProviderName, config: TuneConfig) -> Iterator[GraphForms]:
    """The given model in every form of the graph, in files that are gone afterwards."""
    with Runner(given, SessionRequest(provider)):
        pass  # what a provider cannot do is refused before minutes of work
    with TemporaryDirectory(prefix="ct3d-tune-") as folder:
        yield build_graph_forms(
            given,
            Path(folder),
            provider,
            load_parity_dataset(config.parity_data, given.contract, config.atol),
            precisions=permitted_precisions(config.precisions, provider),
            calibration=load_calibration_data(config.calibration_data, config.parity_data, given.contract),
        )


def _steps(progress: Progress, total: int, what: str) -> Callable[[], None]:
    """A function to call after each of ``total`` steps."""
    done = count(1)
    return lambda: progress(next(done), total, what)


def _measure_memory(bench: TuningBench, bf16: bool, progress: Progress) -> list[CandidateResult]:
    wanted = generate_candidates(bench.forms, bench.provider, bf16=bf16)
    LOGGER.info("measuring the memory of %s, each in a process of its own ...", plural(len(wanted), "candidate"))
    return measure_memory(bench, wanted, on_candidate=_steps(progress, len(wanted), "Memory"))


def _time(
    bench: TuningBench, measured: list[CandidateResult], config: TuneConfig, progress: Progress
) -> tuple[list[CandidateResult], str]:
    dataset = load_parity_dataset(config.parity_data, bench.given.contract)
    volumes = list(dataset.volumes)
    results = drop_over_budget(measured, config.max_memory, bench.baseline)
    left = sum(result.dropped is None for result in results)
    LOGGER.info("checking the parity of %d of them on %s ...", left, dataset.description)
    step = _steps(progress, len(results), "Parity checks")
    results = check_candidate_parity(bench, results, replace(dataset, volumes=volumes), on_candidate=step)
    LOGGER.info("timing those that pass in turn, %s ...", plural(config.rounds, "round"))
    step = _steps(progress, config.rounds + 1, "Rounds")
    return time_interleaved(bench, results, volumes[0], config.rounds, on_round=step), dataset.description


def _choose(
    bench: TuningBench, results: Sequence[CandidateResult], max_memory: int | None, parity_data: str
) -> TuningResult:
    selected = choose_fastest(results, max_memory)
    return TuningResult(
        key=tuning_key(bench.given.sha256, bench.provider),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        file_sha256=bench.forms[results[selected].candidate.form].sha256,
        selected=selected,
        baseline=[result.candidate for result in results].index(bench.baseline),
        memory_budget=max_memory,
        parity_data=parity_data,
        limits={name: bench.tolerance_for(name) for name in sorted({each.candidate.arithmetic for each in results})},
        results=tuple(results),
    )


def _write(choice: TuningResult, bench: TuningBench) -> None:
    """The graph first: a choice whose file is not there yet would not be used, nor the one before it."""
    model, provider = bench.given.path, bench.provider
    keep_other_provider(model, provider)
    if not choice.uses_original_file:
        with atomic_file(tuned_model_path(model, provider)) as stream:
            stream.write(bench.forms[choice.candidate.form].data)
        LOGGER.info("wrote %s", tuned_model_path(model, provider))
    with atomic_file(tuning_result_path(model, provider)) as stream:
        stream.write(choice.to_json().encode())
    LOGGER.info("wrote %s", tuning_result_path(model, provider))
    if choice.uses_original_file:
        tuned_model_path(model, provider).unlink(missing_ok=True)
