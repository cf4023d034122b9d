"""JSON files parsed strictly: one way to check types, and one wording for what is wrong (docs/decisions/0011)."""

import json
import re
import sys
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

from ct3d_edge.errors import Ct3dError

T = TypeVar("T")

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""`json.loads` reads 1e999 as infinity."""

Duration = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


def parse_object(text: str | bytes, what: str, error: type[Ct3dError]) -> dict[str, Any]:
    """Parse a JSON object.

    Parameters
    ----------
    text
        JSON; bytes are UTF-8.
    what
        Begins the message of an error, such as ``"The contract"``.
    error
        Class of the error.

    Raises
    ------
    Ct3dError
        Of class ``error``, if the text is no JSON object or holds NaN or Infinity, which are not JSON.
    """
    try:
        data = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as problem:
        raise error(f"{what} is not valid JSON ({problem}).") from problem
    if not isinstance(data, dict):
        raise error(f"{what} is a JSON {type(data).__name__}, not an object.")
    return data


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def require_names(data: dict[str, Any], names: set[str], what: str, error: type[Ct3dError]) -> None:
    """Refuse an object with other keys than ``names``: an error of class ``error`` whose message ``what`` begins."""
    if set(data) != names:
        raise error(f"{what}: missing {sorted(names - set(data))}, unknown {sorted(set(data) - names)}.")


def convert(data: object, kind: type[T], what: str, error: type[Ct3dError]) -> T:
    """Turn parsed JSON into a dataclass or `msgspec.Struct`; a bool is no number, and 1.0 no whole number.

    Parameters
    ----------
    data
        From `parse_object`.
    kind
        Its annotations, with `msgspec.Meta` for bounds, give the values that each field may have.
    what
        Begins the message of an error, such as ``"The split"``.
    error
        Class of the error.

    Raises
    ------
    Ct3dError
        Of class ``error``, with the path of the first field that does not fit.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as problem:
        path, message = _explain(problem, data)
        raise error(": ".join([what, *filter(None, [path.lstrip(".")]), message]) + ".") from problem


def check_fields(instance: Any, prefix: str, error: type[Ct3dError]) -> None:
    """Check the fields of a frozen dataclass by their annotations; call it in ``__post_init__``.

    Numbers and tuples become what is annotated: 1 becomes 1.0 in a field for a float, a list becomes a tuple.

    Parameters
    ----------
    instance
        The dataclass instance.
    prefix
        Stands before the name of a field in the message of an error, such as ``"Contract: "``.
    error
        Class of the error.

    Raises
    ------
    Ct3dError
        Of class ``error``, with the name of the field, what it must be and what was found.
    """
    for name, kind in ((field.name, field.type) for field in fields(instance)):
        value = getattr(instance, name)
        value = value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
        try:
            object.__setattr__(instance, name, msgspec.convert(value, kind))
        except msgspec.ValidationError as problem:
            path, message = _explain(problem, value)
            if get_origin(kind) is Literal:
                message = f"expected one of {', '.join(get_args(kind))}, found {value!r}"
            raise error(f"{prefix}{name}{path}: {message}.") from problem


def _explain(problem: msgspec.ValidationError, data: Any) -> tuple[str, str]:
    """Path and message of an error such as "Expected `int`, got `str` - at `$.entries[0].fold`", and what was found."""
    message, _, path = str(problem).partition(" - at `$")
    path = path.rstrip("`")
    if message.startswith("Expected") and "[...]" not in path:  # the value of any key
        for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
            data = data[name] if name else data[int(index)]
        message = f"{message.partition(', got')[0]}, found {data!r:.100}"
    return path, message[:1].lower() + message[1:]
