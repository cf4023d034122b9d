"""``ct3d-edge tune``: which form of a model, precision, threads and options are fastest here, proven and kept."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import ModelArgument, ProviderOption, RequiredModelOption, required_model
from ct3d_edge.conversion.parity_data import CalibrateOption, LimitOption, ProofOption, calibration, proof_volumes
from ct3d_edge.errors import GateError, UsageError
from ct3d_edge.extras import OPTIMIZE, require_extra
from ct3d_edge.formatting import parse_size, plural
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.system.atomic_write import atomic_file, require_writable
from ct3d_edge.system.file_lock import sole_writer

if TYPE_CHECKING:
    from ct3d_edge.conversion.precision import Precision
    from ct3d_edge.modelfile.model_file import ModelFile
    from ct3d_edge.tuning.candidate import Result
    from ct3d_edge.tuning.measure import Bench
    from ct3d_edge.tuning.result import TunedChoice
    from ct3d_edge.tuning.search_space import Forms


@dataclass(frozen=True)
class Wish:
    """What is asked of a tuning: see the options of the same names."""

    provider: ProviderName
    precisions: "tuple[Precision, ...]"
    memory_budget: int | None
    rounds: int
    proof: Path | None
    calibrate: Path | None
    limit: float | None


def tune(
    argument: ModelArgument = None,
    model: RequiredModelOption = None,
    provider: ProviderOption = "cpu",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[fp32|fp16|int8|any]",
            help="Permit candidates in fewer bits, whose answers differ within that precision's limit; may be "
            "repeated. any: those that the provider computes in by itself. The given file's own is always tried.",
        ),
    ] = None,
    memory_budget: Annotated[
        str | None,
        typer.Option("--memory-budget", metavar="SIZE", help="What a session and its runs may add, like 150MB."),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", "-n", min=3, help="Runs of each candidate that are counted, in turn.")
    ] = 15,
    proof: ProofOption = None,
    calibrate: CalibrateOption = None,
    limit: LimitOption = None,
) -> None:
    """Find what runs a model fastest on this device.

    Forms of its graph, precisions, threads and provider options are measured in turn, and the fastest is kept. Whatever
    does not answer as the given model does is dropped. The choice goes to MODEL.tuned.json beside the model, another
    form of the graph to MODEL.tuned.onnx; those of other providers than cpu have its name in theirs (tuned-openvino).
    `infer` and `bench` follow the provider's choice while model, device and versions are the same.
    Where nothing holds, nothing is written, and the exit code is 4.
    """
    path = required_model(model, argument)
    budget = parse_size(memory_budget)
    asked = _precisions(precision or [])
    if calibrate and not set(asked) - {"fp32"}:
        raise UsageError("--calibrate is for --precision fp16, int8 and any: fp32 needs no calibration.")
    require_extra("optimize", OPTIMIZE)
    from ct3d_edge.modelfile.model_file import load_model_file
    from ct3d_edge.session.provider_selection import expected_provider
    from ct3d_edge.tuning.memory_limit import require_possible
    from ct3d_edge.tuning.result import choice_path, tuned_model_path
    from ct3d_edge.tuning.search_space import permitted

    given = load_model_file(path)
    if re.search(r"\.tuned(-[a-z-]+)?\.onnx$", given.path.name):
        raise UsageError(f"{path} is what a tuning chose. Tune the model that it was made from.")
    actual = expected_provider(provider)
    for written in (choice_path(path, actual), tuned_model_path(path, actual)):
        require_writable(written)
    wish = Wish(actual, permitted(asked, actual), budget, rounds, proof, calibrate, limit)
    require_possible(given, wish.precisions, budget)
    with sole_writer(choice_path(path, actual)):
        _tune(given, wish)


def _precisions(texts: list[str]) -> tuple[str, ...]:
    from ct3d_edge.conversion.precision import PRECISIONS

    known = (*PRECISIONS, "any")
    unknown = [text for text in texts if text not in known]
    if unknown:
        raise UsageError(f"--precision takes one of {', '.join(known)} at a time, found {unknown[0]!r}.")
    return tuple(texts)


def _tune(given: "ModelFile", wish: Wish) -> None:
    from ct3d_edge.cli.tune_print import print_choice, print_table
    from ct3d_edge.tuning.measure import Bench
    from ct3d_edge.tuning.result import require_room

    with _forms(given, wish) as forms:
        bench = Bench(given, forms.models, wish.provider, wish.limit)
        results = _weigh(bench)
        try:
            require_room(results, wish.memory_budget)
        except GateError:
            print_table(results, forms.dropped, wish.memory_budget)
            raise
        results, material = _measure(bench, results, wish)
        print_table(results, forms.dropped, wish.memory_budget)
        choice = _choose(bench, results, wish.memory_budget, material)
        _write(choice, bench)
    print_choice(choice, given.path)


@contextmanager
def _forms(given: "ModelFile", wish: Wish) -> "Iterator[Forms]":
    """The given model in every form there is, in files that are gone afterwards, and why others are not among them."""
    from ct3d_edge.cli.terminal import say
    from ct3d_edge.session.runner import Runner
    from ct3d_edge.tuning.search_space import make_forms

    with Runner(given, wish.provider):
        pass  # what a provider cannot do is told before minutes of work
    material, _ = proof_volumes(wish.proof, given.contract)
    with TemporaryDirectory(prefix="ct3d-tune-") as folder:
        yield make_forms(
            given,
            Path(folder),
            wish.provider,
            lambda: proof_volumes(wish.proof, given.contract)[1],
            material=material,
            limit=wish.limit,
            precisions=wish.precisions,
            calibration=calibration(wish.calibrate, wish.proof, given.contract),
            on_stage=lambda stage: say(f"{stage} ..."),
        )


def _weigh(bench: "Bench") -> "list[Result]":
    from ct3d_edge.cli.terminal import progress, say
    from ct3d_edge.tuning.measure import weigh
    from ct3d_edge.tuning.search_space import candidates

    wanted = candidates(bench.forms, bench.provider)
    say(f"weighing {plural(len(wanted), 'candidate')}, each in a process of its own ...")
    with progress(len(wanted), "Memory") as advance:
        return weigh(bench, wanted, on_candidate=advance)


def _measure(bench: "Bench", weighed: "list[Result]", wish: Wish) -> "tuple[list[Result], str]":
    from ct3d_edge.cli.terminal import progress, say
    from ct3d_edge.tuning.measure import judge, time_in_turn
    from ct3d_edge.tuning.memory_limit import leave_out

    material, found = proof_volumes(wish.proof, bench.given.contract)
    volumes = list(found)
    results = leave_out(weighed, wish.memory_budget, bench.standard)
    say(f"proving {sum(result.dropped is None for result in results)} of them on {material} ...")
    with progress(len(results), "Proofs") as advance:
        results = judge(bench, results, lambda: volumes, material=material, on_candidate=advance)
    say(f"timing those that hold in turn, {plural(wish.rounds, 'round')} ...")
    with progress(wish.rounds + 1, "Rounds") as advance:
        return time_in_turn(bench, results, volumes[0], wish.rounds, on_round=advance), material


def _choose(bench: "Bench", results: "list[Result]", budget: int | None, material: str) -> "TunedChoice":
    from datetime import UTC, datetime

    from ct3d_edge.tuning.result import TunedChoice, choose, key_of

    chosen = choose(results, budget)
    return TunedChoice(
        key=key_of(bench.given.sha256, bench.provider),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        file_sha256=bench.forms[results[chosen].candidate.form].sha256,
        chosen=chosen,
        standard=[result.candidate for result in results].index(bench.standard),
        memory_budget=budget,
        material=material,
        limits={form.precision: bench.limit_for(form.precision) for form in bench.forms},
        results=tuple(results),
    )


def _write(choice: "TunedChoice", bench: "Bench") -> None:
    """The graph first: a choice whose file is not there yet would be left aside, and so would the one before it."""
    from ct3d_edge.tuning.cache import make_room
    from ct3d_edge.tuning.result import choice_path, tuned_model_path

    model, provider = bench.given.path, bench.provider
    make_room(model, provider)
    if not choice.of_the_given_file:
        with atomic_file(tuned_model_path(model, provider)) as stream:
            stream.write(bench.forms[choice.candidate.form].data)
    with atomic_file(choice_path(model, provider)) as stream:
        stream.write(choice.to_json().encode())
    if choice.of_the_given_file:
        tuned_model_path(model, provider).unlink(missing_ok=True)
