"""Commands that take each option once, nothing empty, and name the value that they cannot take."""

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ct3d_edge.cli.logs import NAMES, configure, log_parameters
from ct3d_edge.cli.value_errors import reword
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    import click


class _Once:
    """What commands and groups have in common; those that do work have the options of the log."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if not isinstance(self, TyperGroup) or self.invoke_without_command:
            self.params: list[Any] = [*self.params, *log_parameters()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and set up the log before the command begins, which knows nothing of it."""
        rest = self._parse_once(ctx, args)
        chosen = {name: ctx.params.pop(name) for name in NAMES if name in ctx.params}
        if chosen and not ctx.resilient_parsing:
            configure(**chosen)
        return rest

    def _parse_once(self, ctx: Any, args: list[str]) -> list[str]:
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
        _require_once(self.make_parser(ctx).parse_args(list(args))[2])  # type: ignore[attr-defined]
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except typer.BadParameter as error:
            reword(error)
            raise
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The parts of the usage line, without hidden arguments."""
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        hidden = [parameter for parameter in self.get_params(ctx) if getattr(parameter, "hidden", False)]  # type: ignore[attr-defined]
        unwanted = [piece for parameter in hidden for piece in parameter.get_usage_pieces(ctx)]
        return [piece for piece in pieces if piece not in unwanted]


class OnceCommand(_Once, TyperCommand):
    """One command."""


class OnceGroup(_Once, TyperGroup):
    """A command that has further ones."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises
        ------
        ReaderGone
            In place of the error of a closed pipe, which click would turn into exit code 1.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error


class ReaderGone(Exception):
    """Whoever read standard output has ended (``| head``)."""


def _require_once(given: "list[click.Parameter]") -> None:
    for place, parameter in enumerate(given):
        single = parameter.param_type_name == "option" and not parameter.multiple
        if single and not getattr(parameter, "is_flag", False) and parameter in given[:place]:
            name = max(parameter.opts, key=len)
            raise UsageError(f"{name} was given twice; it takes one value. Keep the one you mean.")
