"""``ct3d-edge tune``: which form of a model, precision, threads and options are fastest here, proven and kept."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.compile_options import CalibrationDataOption, ParityDataOption, ToleranceOption
from ct3d_edge.cli.options import ModelArgument, ProviderOption, RequiredModelOption, required_model
from ct3d_edge.conversion.parity_data import (
    calibration_volumes,
    parity_volumes,
)
from ct3d_edge.errors import CheckFailedError, UsageError
from ct3d_edge.extras import OPTIMIZE_MODULES, require_extra
from ct3d_edge.formatting import parse_size, plural
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.system.atomic_write import atomic_file, require_writable
from ct3d_edge.system.file_lock import exclusive_lock

if TYPE_CHECKING:
    from ct3d_edge.conversion.precision import Precision
    from ct3d_edge.modelfile.model_file import ModelFile
    from ct3d_edge.tuning.candidate import CandidateResult
    from ct3d_edge.tuning.measure import TuningBench
    from ct3d_edge.tuning.result import TuningResult
    from ct3d_edge.tuning.search_space import GraphForms


@dataclass(frozen=True)
class TuneRequest:
    """What is asked of a tuning: see the options of the same names."""

    provider: ProviderName
    precisions: "tuple[Precision, ...]"
    max_memory: int | None
    rounds: int
    parity: Path | None
    calibrate: Path | None
    limit: float | None


def tune(
    argument: ModelArgument = None,
    model: RequiredModelOption = None,
    provider: ProviderOption = "cpu",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-precision",
            metavar="[fp32|fp16|int8|any]",
            help="Permit candidates in fewer bits, whose answers differ within that "
            "precision's limit; may be repeated. any: those that the provider computes in by itself. "
            "The given file's own is always tried.",
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="SIZE", help="What a session and its runs may add, like 150MB."),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", "-n", min=3, help="Runs of each candidate that are counted, in turn.")
    ] = 15,
    parity: ParityDataOption = None,
    calibrate: CalibrationDataOption = None,
    limit: ToleranceOption = None,
) -> None:
    """Find what runs a model fastest on this device.

    Forms of its graph, precisions, threads and provider options are measured in turn, and the fastest is kept. Whatever
    does not answer as the given model does is dropped. The choice goes to MODEL.tuned.json beside the model, another
    form of the graph to MODEL.tuned.onnx; those of other providers than cpu have its name in theirs (tuned-openvino).
    `infer` and `bench` follow the provider's choice while model, device and versions are the same.
    Where nothing holds, nothing is written, and the exit code is 4.
    """
    path = required_model(model, argument)
    budget = parse_size(max_memory)
    asked = _precisions(precision or [])
    if calibrate and not set(asked) - {"fp32"}:
        raise UsageError("--calibration-data is for --allow-precision fp16, int8 and any: fp32 needs no calibration.")
    require_extra("optimize", OPTIMIZE_MODULES)
    from ct3d_edge.modelfile.model_file import load_model_file
    from ct3d_edge.session.provider_selection import find_expected_provider
    from ct3d_edge.tuning.memory_limit import check_memory_feasible
    from ct3d_edge.tuning.result import tuned_model_path, tuning_result_path
    from ct3d_edge.tuning.search_space import permitted_precisions

    given = load_model_file(path)
    if re.search(r"\.tuned(-[a-z-]+)?\.onnx$", given.path.name):
        raise UsageError(f"{path} is what a tuning chose. Tune the model that it was made from.")
    actual = find_expected_provider(provider)
    for written in (tuning_result_path(path, actual), tuned_model_path(path, actual)):
        require_writable(written)
    request = TuneRequest(actual, permitted_precisions(asked, actual), budget, rounds, parity, calibrate, limit)
    check_memory_feasible(given, request.precisions, budget)
    with exclusive_lock(tuning_result_path(path, actual)):
        _tune(given, request)


def _precisions(texts: list[str]) -> tuple[str, ...]:
    from ct3d_edge.conversion.precision import PRECISIONS

    known = (*PRECISIONS, "any")
    unknown = [text for text in texts if text not in known]
    if unknown:
        raise UsageError(f"--allow-precision takes one of {', '.join(known)} at a time, found {unknown[0]!r}.")
    return tuple(texts)


def _tune(given: "ModelFile", request: TuneRequest) -> None:
    from ct3d_edge.cli.tune_print import print_choice, print_table
    from ct3d_edge.tuning.measure import TuningBench
    from ct3d_edge.tuning.result import check_memory_budget

    with _forms(given, request) as forms:
        bench = TuningBench(given, forms.models, request.provider, request.limit)
        results = _weigh(bench)
        try:
            check_memory_budget(results, request.max_memory)
        except CheckFailedError:
            print_table(results, forms.dropped, request.max_memory)
            raise
        results, material = _measure(bench, results, request)
        print_table(results, forms.dropped, request.max_memory)
        choice = _choose(bench, results, request.max_memory, material)
        _write(choice, bench)
    print_choice(choice, given.path)


@contextmanager
def _forms(given: "ModelFile", request: TuneRequest) -> "Iterator[GraphForms]":
    """The given model in every form there is, in files that are gone afterwards, and why others are not among them."""
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.session.provider_selection import SessionRequest
    from ct3d_edge.session.runner import Runner
    from ct3d_edge.tuning.search_space import build_graph_forms

    with Runner(given, SessionRequest(request.provider)):
        pass  # what a provider cannot do is told before minutes of work
    material, _ = parity_volumes(request.parity, given.contract)
    with TemporaryDirectory(prefix="ct3d-tune-") as folder:
        yield build_graph_forms(
            given,
            Path(folder),
            request.provider,
            lambda: parity_volumes(request.parity, given.contract)[1],
            material=material,
            limit=request.limit,
            precisions=request.precisions,
            calibration=calibration_volumes(request.calibrate, request.parity, given.contract),
            on_stage=lambda stage: log(f"{stage} ..."),
        )


def _weigh(bench: "TuningBench") -> "list[CandidateResult]":
    from ct3d_edge.cli.terminal import log, progress
    from ct3d_edge.tuning.measure import measure_memory
    from ct3d_edge.tuning.search_space import generate_candidates

    wanted = generate_candidates(bench.forms, bench.provider)
    log(f"weighing {plural(len(wanted), 'candidate')}, each in a process of its own ...")
    with progress(len(wanted), "Memory") as advance:
        return measure_memory(bench, wanted, on_candidate=advance)


def _measure(
    bench: "TuningBench", weighed: "list[CandidateResult]", request: TuneRequest
) -> "tuple[list[CandidateResult], str]":
    from ct3d_edge.cli.terminal import log, progress
    from ct3d_edge.tuning.measure import check_candidate_parity, time_interleaved
    from ct3d_edge.tuning.memory_limit import drop_over_budget

    material, found = parity_volumes(request.parity, bench.given.contract)
    volumes = list(found)
    results = drop_over_budget(weighed, request.max_memory, bench.baseline)
    log(f"proving {sum(result.dropped is None for result in results)} of them on {material} ...")
    with progress(len(results), "Proofs") as advance:
        results = check_candidate_parity(bench, results, lambda: volumes, material=material, on_candidate=advance)
    log(f"timing those that hold in turn, {plural(request.rounds, 'round')} ...")
    with progress(request.rounds + 1, "Rounds") as advance:
        return time_interleaved(bench, results, volumes[0], request.rounds, on_round=advance), material


def _choose(
    bench: "TuningBench", results: "list[CandidateResult]", budget: int | None, material: str
) -> "TuningResult":
    from datetime import UTC, datetime

    from ct3d_edge.tuning.result import TuningResult, choose_fastest, tuning_key

    chosen = choose_fastest(results, budget)
    return TuningResult(
        key=tuning_key(bench.given.sha256, bench.provider),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        file_sha256=bench.forms[results[chosen].candidate.form].sha256,
        selected=chosen,
        baseline=[result.candidate for result in results].index(bench.baseline),
        memory_budget=budget,
        material=material,
        limits={form.precision: bench.tolerance_for(form.precision) for form in bench.forms},
        results=tuple(results),
    )


def _write(choice: "TuningResult", bench: "TuningBench") -> None:
    """The graph first: a choice whose file is not there yet would be left aside, and so would the one before it."""
    from ct3d_edge.tuning.cache import keep_other_provider
    from ct3d_edge.tuning.result import tuned_model_path, tuning_result_path

    model, provider = bench.given.path, bench.provider
    keep_other_provider(model, provider)
    if not choice.uses_original_file:
        with atomic_file(tuned_model_path(model, provider)) as stream:
            stream.write(bench.forms[choice.candidate.form].data)
    with atomic_file(tuning_result_path(model, provider)) as stream:
        stream.write(choice.to_json().encode())
    if choice.uses_original_file:
        tuned_model_path(model, provider).unlink(missing_ok=True)
