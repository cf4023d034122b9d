"""Options given once, values that are not empty, errors about values, former names of options, and examples.

typer 0.29 shows the messages of the library that it checks values with ("Input should be a valid integer, unable to
parse string as an integer"), which name neither the value nor its limit.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ct3d_edge.cli.logs import (
    LOG_PARAMETER_NAMES,
    ROOT_LOGGER,
    configure_logging,
    log_parameters,
    to_option_names,
)
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    import click

VALUE_ERROR_TEMPLATES = {
    "int_parsing": "{input!r} is not a whole number.",
    "int_from_float": "{input!r} is not a whole number.",
    "float_parsing": "{input!r} is not a number.",
    "string_type": "{input!r} is not text.",
    "path_type": "{input!r} is not the text of a path.",
    "int_type": "{input!r} is not a whole number.",
    "float_type": "{input!r} is not a number.",
    "bool_parsing": "{input!r} is neither true nor false.",
    "bool_type": "{input!r} is neither true nor false.",
    "greater_than_equal": "{input} is too small; the smallest value is {ge}.",
    "less_than_equal": "{input} is too large; the largest value is {le}.",
}
"""By the kind of error that the library reports."""


def reword_value_error(error: typer.BadParameter) -> None:
    """Replace the message of an error by one that names the value; other messages lose a prefix at most."""
    details = getattr(error.__cause__, "errors", None)
    first: dict[str, Any] = details()[0] if callable(details) else {}
    template = VALUE_ERROR_TEMPLATES.get(first.get("type", ""))
    if template:
        error.message = template.format(input=first.get("input"), **first.get("ctx", {}))
    else:
        error.message = error.message.removeprefix("Value error, ")


def checked_by(parse: Callable[[str], object]) -> Callable[[Any], Any]:
    """A callback that passes values on which ``parse`` takes; it makes its UsageError one of the option."""

    def check(value: Any) -> Any:
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str):  # None if it is left out; a value of another type is an error of its own
                try:
                    parse(text)
                except UsageError as error:
                    raise typer.BadParameter(to_option_names(str(error))) from error
        return value

    return check


EXAMPLES = {
    "": "ct3d-edge infer scans --out results.jsonl",
    "infer": "ct3d-edge infer scans --out results.jsonl --report report.html",
    "merge": "ct3d-edge merge part*.jsonl --out results.jsonl",
    "serve": "ct3d-edge serve --port 8000",
    "watch": "ct3d-edge watch incoming --out results.jsonl",
    "job": "ct3d-edge job --in study --out results",
    "listen": "ct3d-edge listen --spool in --peer CT@ct1 --send-to PACS@pacs:104",
    "check": "ct3d-edge check scans --json",
    "preprocess": "ct3d-edge preprocess scans --out inputs",
    "view": "ct3d-edge view scans/chest.nii.gz --out slices.png",
    "train": "ct3d-edge train scans --split split.json --out run",
    "distill": "ct3d-edge distill run scans --out small",
    "evaluate": "ct3d-edge evaluate --model run scans --split split.json",
    "fit-temperature": "ct3d-edge fit-temperature --model run scans",
    "export": "ct3d-edge export --model run --out model.onnx",
    "optimize": "ct3d-edge optimize --model old.onnx --out new.onnx --optimize fast",
    "tune": "ct3d-edge tune --model model.onnx --max-memory 150MB",
    "inspect": "ct3d-edge inspect --model model.onnx",
    "verify": "ct3d-edge verify --model model.onnx --provider cpu",
    "package": "ct3d-edge package --model raw.onnx --for triton --out repository",
    "build": "ct3d-edge build --provider tensorrt --model model.onnx",
    "doctor": "ct3d-edge doctor",
    "bench": "ct3d-edge bench --input scans --runs 100 --out bench.json",
    "bench compare": "ct3d-edge bench compare old.json new.json --fail-if 'p50 > +5%'",
    "bench history": "ct3d-edge bench history records",
    "bench show": "ct3d-edge bench show bench.json --html bench.html",
    "config": "ct3d-edge config check node.toml",
    "config check": "ct3d-edge config check node.toml",
    "config show": "ct3d-edge config show node.toml",
    "data": "ct3d-edge data synth --out phantoms --num-scans 6",
    "data split": "ct3d-edge data split scans --out split.json",
    "data synth": "ct3d-edge data synth --out phantoms --num-scans 9",
    "data fetch": "ct3d-edge data fetch mosmed --out mosmed",
}


def example_of(command: str) -> str:
    """The example of a command, as the end of its help."""
    return f"Example: {EXAMPLES[command]}"


FORMER_OPTIONS = {
    "--allow": ("--downgrade-check",),
    "--anew": ("--recompute",),
    "--batch": ("--batch-size",),
    "--budget": ("--time-limit",),
    "--calibrate": ("--calibration-data",),
    "--distribute": ("--strategy",),
    "--every": ("--poll-interval",),
    "--explain": ("--gradcam-dir", "--with-gradcam-output"),
    "--initial": ("--init-weights",),
    "--json": ("--out",),
    "--latency-bound": ("--latency-slo",),
    "--limit": ("--atol",),
    "--memory-budget": ("--max-memory",),
    "--no-tuned": ("--ignore-tuning",),
    "--precision": ("--mixed-precision", "--allow-precision"),
    "--proof": ("--parity-data",),
    "--receipt": ("--run-report",),
    "--rule": ("--threshold-method",),
    "--scans": ("--input", "--num-scans"),
    "--series": ("--series-uid", "--metric"),
    "--settle": ("--stable-for",),
    "--size": ("--shape",),
    "--skip-bad": ("--skip-invalid",),
    "--target-precision": ("--ci-width",),
    "--weights": ("--weight-dtype",),
    "--with-identifiers": ("--include-phi",),
}
"""Options of 0.1 before its release and what a command may call them now. Taken for one release, with a warning."""

COMMANDS_OF_FORMER = {
    "--batch": ("build",),
    "--json": ("bench",),
    "--scans": ("bench", "synth"),
    "--size": ("export", "train"),
}
"""The only commands that had options whose present names other commands have too."""


def rename_former_options(args: list[str], known: set[str], command: str) -> tuple[list[str], list[str]]:
    """Arguments with former names of options replaced by those that ``command`` has, and a warning for each."""
    renamed: list[str] = []
    warnings: list[str] = []
    for index, word in enumerate(args):
        if word == "--":
            return [*renamed, *args[index:]], warnings
        name, equals, value = word.partition("=")
        now = next((option for option in FORMER_OPTIONS.get(name, ()) if option in known), None)
        if now is None or name in known or command not in COMMANDS_OF_FORMER.get(name, (command,)):
            renamed.append(word)
            continue
        renamed.append(f"{now}{equals}{value}")
        warnings.append(f"{name} is now called {now}; the former name goes in the next release.")
    return renamed, warnings


class _StrictParsing:
    """What commands and groups have in common; those that do work have the options of the log."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if not isinstance(self, TyperGroup) or self.invoke_without_command:
            self.params: list[Any] = [*self.params, *log_parameters()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and set up the log before the command begins."""
        known = {option for parameter in self.params for option in parameter.opts}
        args, warnings = rename_former_options(args, known, ctx.info_name or "")
        try:
            rest = self._parse_strictly(ctx, args)
        except Exception:  # of click or of ct3d-edge: the option is named before its error
            for warning in warnings:
                ROOT_LOGGER.warning(warning)
            raise
        chosen = {name: ctx.params.pop(name) for name in LOG_PARAMETER_NAMES if name in ctx.params}
        if chosen and not ctx.resilient_parsing:
            configure_logging(**chosen)
            for warning in warnings:
                ROOT_LOGGER.warning(warning)
        return rest

    def _parse_strictly(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse what would silently mean something else: a second value of an option, an empty path.

        Raises
        ------
        UsageError
            With the option's name, or with what an empty argument is likely to come from.
        """
        if ctx.resilient_parsing:  # a shell asks how a word could go on
            unfinished: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
            return unfinished
        if "" in args:
            raise UsageError("An argument is empty; as a path that would be this folder. Is a shell variable unset?")
        _reject_repeated_options(self.make_parser(ctx).parse_args(list(args))[2])  # type: ignore[attr-defined]
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except typer.BadParameter as error:
            reword_value_error(error)
            raise
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The parts of the usage line, without hidden arguments."""
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        hidden = [parameter for parameter in self.get_params(ctx) if getattr(parameter, "hidden", False)]  # type: ignore[attr-defined]
        unwanted = [piece for parameter in hidden for piece in parameter.get_usage_pieces(ctx)]
        return [piece for piece in pieces if piece not in unwanted]


class StrictCommand(_StrictParsing, TyperCommand):
    """One command."""


class StrictGroup(_StrictParsing, TyperGroup):
    """A command that has further ones."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises
        ------
        ClosedPipeError
            In place of the error of a closed pipe, which click would turn into exit code 1.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ClosedPipeError from error


class ClosedPipeError(Exception):
    """Whoever read standard output has ended (``| head``)."""


def _reject_repeated_options(given: "list[click.Parameter]") -> None:
    for index, parameter in enumerate(given):
        single = parameter.param_type_name == "option" and not parameter.multiple
        if single and not getattr(parameter, "is_flag", False) and parameter in given[:index]:
            name = max(parameter.opts, key=len)
            raise UsageError(f"{name} was given twice; it takes one value. Keep the one you mean.")
