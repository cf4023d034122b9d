"""Commands that take each option once, and nothing empty: what was meant by either is not certain."""

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    import click


class _Once:
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse what would silently mean something else: a second value of an option, an empty path.

        Raises
        ------
        UsageError
            With the option's name, or with what an empty argument is likely to come from.
        """
        if "" in args:
            raise UsageError("An argument is empty; as a path that would be this folder. Is a shell variable unset?")
        _require_once(self.make_parser(ctx).parse_args(list(args))[2])  # type: ignore[attr-defined]
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest


class OnceCommand(_Once, TyperCommand):
    """One command."""


class OnceGroup(_Once, TyperGroup):
    """A command that has further ones."""


def _require_once(given: "list[click.Parameter]") -> None:
    for place, parameter in enumerate(given):
        single = parameter.param_type_name == "option" and not parameter.multiple
        if single and not getattr(parameter, "is_flag", False) and parameter in given[:place]:
            name = max(parameter.opts, key=len)
            raise UsageError(f"{name} was given twice; it takes one value. Keep the one you mean.")
