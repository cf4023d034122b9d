"""Which values the fields of a contract may have."""

from typing import TYPE_CHECKING, Literal, get_args

from ct3d_edge.formatting import plural
from ct3d_edge.json_values import is_int, is_number

if TYPE_CHECKING:
    from ct3d_edge.contract import Contract

Channels = Literal["last", "first", "none"]
Activation = Literal["identity", "sigmoid", "softmax"]
Interpolation = Literal["linear"]

TEMPERATURES = (0.01, 100.0)
"""Beyond these hardly anything but 0, 0.5 and 1 comes out."""

AXIS_DIRECTIONS = ("LR", "AP", "SI")

Check = tuple[bool, str]
"""Whether it holds, and what to say if it does not."""


def complaints(contract: "Contract") -> list[str]:
    """What is wrong with the values of a contract, as sentences without their full stop."""
    checks = (*_of_the_input(contract), *_of_the_output(contract), *_of_the_decision(contract))
    return [complaint for holds, complaint in checks if not holds]


def _of_the_input(contract: "Contract") -> list[Check]:
    return [
        (_is_shape(contract.shape), f"shape must be three sizes of at least 1, found {contract.shape!r}"),
        (
            _is_window(contract.hu_window),
            f"hu_window must be (low, high) with low < high, found {contract.hu_window!r}",
        ),
        (
            contract.orientation == "stored" or is_axis_code(contract.orientation),
            f"orientation must be 'stored' or an axis code such as 'LAS', found {contract.orientation!r}",
        ),
        (is_int(contract.quarter_turns), f"quarter_turns must be a whole number, found {contract.quarter_turns!r}"),
        _is_one_of(Interpolation, "interpolation", contract.interpolation),
        _is_one_of(Channels, "channels", contract.channels),
    ]


def _of_the_output(contract: "Contract") -> list[Check]:
    classes = len(contract.labels) if _are_labels(contract.labels) else 0
    return [
        _is_one_of(Activation, "activation", contract.activation),
        (
            _are_labels(contract.labels),
            f"labels must be two or more different printable names, found {contract.labels!r}",
        ),
        (
            is_int(contract.outputs) and contract.outputs in ((1, 2) if classes == 2 else (classes,)),
            f"{classes} labels do not fit a network with {plural(contract.outputs, 'output')}",
        ),
        (
            contract.activation == "identity" or (contract.activation == "sigmoid") == (contract.outputs == 1),
            f"activation {contract.activation!r} does not fit a network with {plural(contract.outputs, 'output')}",
        ),
    ]


def _of_the_decision(contract: "Contract") -> list[Check]:
    return [
        (
            is_number(contract.threshold) and 0 <= contract.threshold <= 1,
            f"threshold must be a probability, found {contract.threshold!r}",
        ),
        (
            is_number(contract.temperature) and TEMPERATURES[0] <= contract.temperature <= TEMPERATURES[1],
            "temperature must be a number from {:g} to {:g}, found {!r}".format(*TEMPERATURES, contract.temperature),
        ),
    ]


def _is_one_of(kind: object, name: str, value: object) -> Check:
    return value in get_args(kind), f"{name} must be one of {get_args(kind)}, found {value!r}"


def is_axis_code(code: object) -> bool:
    """Whether ``code`` names one direction of each body axis, e.g. ``"LAS"`` or ``"PIR"``."""
    if not isinstance(code, str) or len(code) != len(AXIS_DIRECTIONS):
        return False
    return all(any(letter in axis for letter in code) for axis in AXIS_DIRECTIONS)


def _is_shape(shape: object) -> bool:
    return isinstance(shape, tuple) and len(shape) == 3 and all(is_int(n) and n >= 1 for n in shape)


def _is_window(window: object) -> bool:
    if not (isinstance(window, tuple) and len(window) == 2 and all(map(is_number, window))):
        return False
    return bool(window[0] < window[1])


def _is_name(label: object) -> bool:
    """Without control characters: a model file from elsewhere must not steer the terminal that shows it."""
    return isinstance(label, str) and bool(label) and label.isprintable()


def _are_labels(labels: object) -> bool:
    if not (isinstance(labels, tuple) and all(_is_name(label) for label in labels)):
        return False
    return len(labels) >= 2 and len(set(labels)) == len(labels)
