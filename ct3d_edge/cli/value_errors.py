"""What is wrong with an option's value, in the words of this program.

typer 0.29 shows the messages of the library that it checks values with ("Input should be a valid integer, unable to
parse string as an integer"), which name neither the value nor its limit.
"""

from typing import Any

import typer

MESSAGES = {
    "int_parsing": "{input!r} is not a whole number.",
    "int_from_float": "{input!r} is not a whole number.",
    "float_parsing": "{input!r} is not a number.",
    "greater_than_equal": "{input} is too small; the smallest value is {ge}.",
    "less_than_equal": "{input} is too large; the largest value is {le}.",
}
"""By the kind of error that the library reports."""


def reword(error: typer.BadParameter) -> None:
    """Replace the message of an error by one that names the value; other messages lose a prefix at most."""
    details = getattr(error.__cause__, "errors", None)
    first: dict[str, Any] = details()[0] if callable(details) else {}
    template = MESSAGES.get(first.get("type", ""))
    if template:
        error.message = template.format(input=first.get("input"), **first.get("ctx", {}))
    else:
        error.message = error.message.removeprefix("Value error, ")
