"""``ct3d-edge tune``: which form of a model, threads and options are fastest on this device, proven and kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.atomic import atomic_file, require_writable
from ct3d_edge.cli.evidence import ProofOption, proof_volumes
from ct3d_edge.cli.options import ProviderOption
from ct3d_edge.cli.rewriting import parse_budget
from ct3d_edge.errors import UsageError
from ct3d_edge.extras import OPTIMIZE, require_extra
from ct3d_edge.lock import sole_writer

if TYPE_CHECKING:
    from ct3d_edge.runtime import ModelFile
    from ct3d_edge.tuning import Result, TunedChoice
    from ct3d_edge.tuning.measure import Bench


def tune(
    model: Annotated[Path, typer.Argument(help="A model file, from export or optimize.")],
    provider: ProviderOption = "cpu",
    memory_budget: Annotated[
        str | None,
        typer.Option("--memory-budget", metavar="SIZE", help="What a session and its runs may add, like 150MB."),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", "-n", min=3, help="Runs of each candidate that are counted, in turn.")
    ] = 15,
    proof: ProofOption = None,
    limit: Annotated[
        float, typer.Option(min=0, max=0.1, help="Largest difference of a probability that the proof allows.")
    ] = 1e-5,
) -> None:
    """Measure forms of a model, threads and provider options in turn on this device, and keep the fastest.

    Whatever does not answer as the given model does is dropped. The choice goes to MODEL.tuned.json beside the model,
    another form of the graph to MODEL.tuned.onnx; `infer` and `bench` follow it while model, device and versions are
    the same. Where nothing holds, nothing is written, and the exit code is 4.
    """
    budget = parse_budget(memory_budget)
    require_extra("optimize", OPTIMIZE)
    from ct3d_edge.runtime import load_model_file
    from ct3d_edge.tuning import choice_path, tuned_model_path

    given = load_model_file(model)
    if given.path.name.endswith(".tuned.onnx"):
        raise UsageError(f"{model} is what a tuning chose. Tune the model that it was made from.")
    for path in (choice_path(model), tuned_model_path(model)):
        require_writable(path)
    with sole_writer(choice_path(model)), _forms(given, provider, proof, limit) as (bench, dropped):
        results, material = _measure(bench, rounds, proof, limit)
        _print_table(results, dropped, budget)
        choice = _choose(bench, results, budget, material, limit)
        _write(choice, bench)
    _print_choice(choice, model)


@contextmanager
def _forms(
    given: "ModelFile", provider: ProviderOption, proof: Path | None, limit: float
) -> "Iterator[tuple[Bench, dict[str, str]]]":
    """The given model in every form there is, in files that are gone afterwards, and why others are not among them."""
    from ct3d_edge.cli.terminal import say
    from ct3d_edge.runtime import Runner, expected_provider
    from ct3d_edge.tuning.candidates import make_forms
    from ct3d_edge.tuning.measure import Bench

    actual = expected_provider(provider)
    with Runner(given, actual):
        pass  # what a provider cannot do is told before minutes of work
    material, _ = proof_volumes(proof, given.contract)
    with TemporaryDirectory(prefix="ct3d-tune-") as folder:
        forms = make_forms(
            given,
            Path(folder),
            actual,
            lambda: proof_volumes(proof, given.contract)[1],
            material=material,
            limit=limit,
            on_stage=lambda stage: say(f"{stage} ..."),
        )
        yield Bench(given, forms.models, actual), {str(level): reason for level, reason in forms.dropped.items()}


def _measure(bench: "Bench", rounds: int, proof: Path | None, limit: float) -> "tuple[list[Result], str]":
    from ct3d_edge.cli.terminal import progress, say
    from ct3d_edge.tuning.candidates import candidates
    from ct3d_edge.tuning.measure import judge, time_in_turn

    material, found = proof_volumes(proof, bench.given.contract)
    volumes = list(found)
    wanted = candidates(bench.forms, bench.provider, precision=bench.given.arithmetic)
    say(f"proving {len(wanted)} candidates on {material} ...")
    with progress(len(wanted), "Proofs") as advance:
        results = judge(bench, wanted, lambda: volumes, material=material, limit=limit, on_candidate=advance)
    say(f"timing them in turn, {rounds} rounds ...")
    with progress(rounds + 1, "Rounds") as advance:
        return time_in_turn(bench, results, volumes[0], rounds, on_round=advance), material


def _choose(bench: "Bench", results: "list[Result]", budget: int | None, material: str, limit: float) -> "TunedChoice":
    from datetime import UTC, datetime

    from ct3d_edge.tuning import TunedChoice, choose, key_of
    from ct3d_edge.tuning.candidates import standard

    chosen = choose(results, budget)
    return TunedChoice(
        key=key_of(bench.given.sha256, bench.provider),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        file_sha256=bench.forms[results[chosen].candidate.level].sha256,
        chosen=chosen,
        standard=[result.candidate for result in results].index(
            standard(bench.provider, precision=bench.given.arithmetic)
        ),
        memory_budget=budget,
        material=material,
        limit=limit,
        results=tuple(results),
    )


def _write(choice: "TunedChoice", bench: "Bench") -> None:
    """The graph first: a choice whose file is not there yet would be left aside, and so would the one before it."""
    from ct3d_edge.tuning import choice_path, tuned_model_path

    model = bench.given.path
    if not choice.of_the_given_file:
        with atomic_file(tuned_model_path(model)) as stream:
            stream.write(bench.forms[choice.candidate.level].data)
    with atomic_file(choice_path(model)) as stream:
        stream.write(choice.to_json().encode())
    if choice.of_the_given_file:
        tuned_model_path(model).unlink(missing_ok=True)


def _print_table(results: "list[Result]", dropped: dict[str, str], budget: int | None) -> None:
    from rich.table import Table

    from ct3d_edge.cli.terminal import out

    table = Table("candidate", "median ms", "99 % interval", "memory MB", "fate", box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    for result in results:
        table.add_row(result.candidate.name, *_figures(result), _fate(result, budget))
    for level, reason in dropped.items():
        table.add_row(level, "", "", "", f"dropped: {reason}")
    out().print(table)


def _figures(result: "Result") -> tuple[str, str, str]:
    memory = "" if result.memory is None else f"{result.memory / 1e6:.0f}"
    if not result.samples:
        return "", "", memory
    median = result.median
    ends = ("?" if end is None else f"{end:.1f}" for end in (median.low, median.high))
    return f"{median.value:.1f}", " .. ".join(ends), memory


def _fate(result: "Result", budget: int | None) -> str:
    from ct3d_edge.tuning.choice import over_budget

    if result.dropped:
        return f"dropped: {result.dropped}"
    return "over the budget" if over_budget(result, budget) else "holds"


def _print_choice(choice: "TunedChoice", model: Path) -> None:
    from ct3d_edge.tuning import choice_path, tuned_model_path

    best, plain = choice.results[choice.chosen], choice.results[choice.standard]
    typer.echo(f"chosen: {best.candidate.name}")
    if best is not plain and plain.samples:
        typer.echo(_gain(best, plain))
    written = [choice_path(model), *([] if choice.of_the_given_file else [tuned_model_path(model)])]
    for path in written:
        typer.echo(f"wrote {path}")


def _gain(best: "Result", plain: "Result") -> str:
    """Round by round, so that a drift of the machine does not count."""
    from ct3d_edge.latency import percentile

    found = percentile([slow / fast for slow, fast in zip(plain.samples, best.samples, strict=True)], 50)
    told = f"{found.value:.2f} times as fast as the given file with default options"
    if found.low is None or found.high is None:
        return f"{told}; too few rounds to say how surely"
    doubt = "; it may be chance" if found.low <= 1 else ""
    return f"{told} (median of the rounds; 99 % interval {found.low:.2f} to {found.high:.2f}){doubt}"
