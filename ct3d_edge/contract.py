"""The contract of a model: what it expects of a volume and gives, and what is known of its training scans.

What a model expects of a volume and what its output means: the contract that travels inside the model file.

A contract is written once, when a network is trained or exported, and read by everything that feeds the
network afterwards. It is the only place where preprocessing constants live.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, get_args

from ct3d_edge.errors import ContractError
from ct3d_edge.formatting import plural

MAX_ABS_NUMBER = 1e9
"""Of a size that HU, millimetres and probabilities have."""


def is_int(value: object) -> bool:
    """Whether it is a whole number, and not true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a number of a usual size; NaN is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_ABS_NUMBER


def to_tuples(value: Any) -> Any:
    """Lists as tuples, those inside of them as well."""
    return tuple(map(to_tuples, value)) if isinstance(value, list) else value


Vector = tuple[float, ...]


@dataclass(frozen=True)
class FeatureStatistics:
    """A Gaussian in few directions and noise in all others; see `ct3d_edge.quality_control.ood_detector`.

    Parameters
    ----------
    mean
        ``(C,)`` of the pooled features, the input of the network's first dense layer.
    directions
        ``(k, C)`` unit vectors in which they vary most, at right angles.
    variances
        ``(k,)`` along these, falling.
    residual_variance
        Along every other direction.
    threshold
        Largest distance that is not told.
    scans, held_out
        How many scans it was fitted on, and how many others gave the threshold.

    Raises
    ------
    ContractError
        If these numbers do not fit each other.
    """

    mean: Vector
    directions: tuple[Vector, ...]
    variances: Vector
    residual_variance: float
    threshold: float
    scans: int
    held_out: int

    def __post_init__(self) -> None:
        for holds, complaint in _validity_conditions(self):
            if not holds:
                raise ContractError(f"Contract: feature_statistics {complaint}. Calibrate the run again.")

    @property
    def features(self) -> int:
        """How many features the network pools."""
        return len(self.mean)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Parse its part of a contract.

        Raises
        ------
        ContractError
            If it is no such thing.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ContractError(f"Contract: feature_statistics must be an object with {', '.join(sorted(names))}.")
        return cls(**{name: to_tuples(part) for name, part in value.items()})

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{plural(self.features, 'feature')} of {plural(self.scans, 'scan')}, "
            f"{plural(len(self.directions), 'direction')}; a distance above {self.threshold:.3g} is told "
            f"({plural(self.held_out, 'other scan')})"
        )


def _validity_conditions(given: FeatureStatistics) -> list[tuple[bool, str]]:
    vectors = isinstance(given.directions, tuple) and all(map(_is_vector, (given.mean, *given.directions)))
    size = len(given.mean) if vectors else 0
    same = vectors and size > 0 and all(len(direction) == size for direction in given.directions)
    kept = _is_vector(given.variances) and vectors and len(given.variances) == len(given.directions)
    scales = (*given.variances, given.residual_variance, given.threshold) if kept else ()
    return [
        (same, "must hold a mean and directions of one length"),
        (kept, "must hold a variance for each direction"),
        (kept and all(is_number(scale) and scale > 0 for scale in scales), "must be above 0 in every direction"),
        (all(is_int(count) and count > 0 for count in (given.scans, given.held_out)), "must count their scans"),
    ]


def _is_vector(value: object) -> bool:
    return isinstance(value, tuple) and all(map(is_number, value))


BODY_AXES = ("left to right", "front to back", "along the body")
"""Of a patient, in the order in which ranges hold them."""

Bounds = tuple[float, float]
"""Low and high, both inside."""

ByAxis = tuple[Bounds, Bounds, Bounds]


@dataclass(frozen=True)
class TrainingRange:
    """Bounds of what was measured on training scans; each axis is one of the body, see ``AXES``.

    Parameters
    ----------
    scans
        How many were measured.
    extent_mm
        Of the whole volume.
    spacing_mm
        Voxel edges.
    slices
        Voxels along the body.

    Raises
    ------
    ContractError
        If these are no such bounds.
    """

    scans: int
    extent_mm: ByAxis
    spacing_mm: ByAxis
    slices: Bounds

    def __post_init__(self) -> None:
        sides = (*_format_axes(self.extent_mm), *_format_axes(self.spacing_mm), self.slices)
        counted = is_int(self.scans) and self.scans > 0
        if not counted or len(sides) != 2 * len(BODY_AXES) + 1 or not all(map(_are_bounds, sides)):
            raise ContractError(f"Contract: training_range must hold a low and a high value each, found {self}.")

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Parse its part of a contract.

        Raises
        ------
        ContractError
            If it is no range.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ContractError(f"Contract: training_range must be an object with {', '.join(sorted(names))}.")
        return cls(**{name: to_tuples(part) for name, part in value.items()})

    def describe(self) -> str:
        """One line for people."""
        extent, spacing = (
            ", ".join(_format_bounds(side) for side in part) for part in (self.extent_mm, self.spacing_mm)
        )
        return (
            f"{extent} mm in voxels of {spacing} mm, {_format_bounds(self.slices)} slices "
            f"({plural(self.scans, 'scan')})"
        )


def _format_bounds(bounds: Bounds) -> str:
    low, high = bounds
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def _format_axes(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple) else ()


def _are_bounds(value: object) -> bool:
    if not (isinstance(value, tuple) and len(value) == 2):
        return False
    return all(map(is_number, value)) and bool(0 < value[0] <= value[1])


Channels = Literal["last", "first", "none"]
Activation = Literal["identity", "sigmoid", "softmax"]
Interpolation = Literal["linear"]

TEMPERATURE_RANGE = (0.01, 100.0)
"""Beyond these hardly anything but 0, 0.5 and 1 comes out."""

AXIS_DIRECTIONS = ("LR", "AP", "SI")

Check = tuple[bool, str]
"""Whether it holds, and what to say if it does not."""


def validation_errors(contract: "Contract") -> list[str]:
    """What is wrong with the values of a contract, as sentences without their full stop."""
    checks = (*_input_errors(contract), *_output_errors(contract), *_decision_errors(contract))
    return [complaint for holds, complaint in checks if not holds]


def _input_errors(contract: "Contract") -> list[Check]:
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
        _check_literal(Interpolation, "interpolation", contract.interpolation),
        _check_literal(Channels, "channels", contract.channels),
    ]


def _output_errors(contract: "Contract") -> list[Check]:
    classes = len(contract.labels) if _are_labels(contract.labels) else 0
    return [
        _check_literal(Activation, "activation", contract.activation),
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


def _decision_errors(contract: "Contract") -> list[Check]:
    return [
        (
            is_number(contract.threshold) and 0 <= contract.threshold <= 1,
            f"threshold must be a probability, found {contract.threshold!r}",
        ),
        (
            is_number(contract.temperature) and TEMPERATURE_RANGE[0] <= contract.temperature <= TEMPERATURE_RANGE[1],
            "temperature must be a number from {:g} to {:g}, found {!r}".format(
                *TEMPERATURE_RANGE, contract.temperature
            ),
        ),
    ]


def _check_literal(kind: object, name: str, value: object) -> Check:
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


SCHEMA = 3
"""Version of the JSON form; raised when a field comes or changes its meaning."""

FIELD_SINCE_VERSION = {"temperature": 2, "training_range": 3, "feature_statistics": 3}
"""Which version a field came with; an older one means its default."""

NESTED_FIELDS: dict[str, type[TrainingRange | FeatureStatistics]] = {
    "training_range": TrainingRange,
    "feature_statistics": FeatureStatistics,
}

SCHEMA_WITHOUT_TRAINING_STATS = 2
"""The version in which a contract without range and statistics is still written: its hash stays what it was."""


@dataclass(frozen=True)
class Contract:
    """What a model expects of a volume, and what its output means.

    The defaults are those of the published tutorial ("3D image classification from CT scans", Keras examples),
    except for the orientation, which the tutorial leaves to the file.

    Parameters
    ----------
    shape
        Network input ``(W, H, D)`` in voxels, without batch and channel.
    hu_window
        ``(low, high)`` in HU, mapped to ``[0, 1]``; values outside are clipped.
    orientation
        An axis code such as ``"LAS"`` (axis 0 grows toward the patient's Left, 1 Anterior, 2 Superior), to which
        a scan is turned before anything else, or ``"stored"``: array order as it lies in the file.
    quarter_turns
        Counter-clockwise turns by 90 degrees in the plane of axes 0 and 1, as ``numpy.rot90`` counts them.
    interpolation
        ``"linear"``: sample ``i`` of ``n`` lies at ``i * (n_in - 1) / (n - 1)``, end points aligned.
    channels
        Where the network's input has its axis of length one: ``"last"`` ``(N, W, H, D, 1)``, ``"first"``
        ``(N, 1, W, H, D)``, ``"none"`` ``(N, W, H, D)``.
    outputs
        Length of the network's output vector: 1 (the probability of the second of two classes) or one a class.
    labels
        Class names in the order of the output.
    activation
        What must still be applied to the output to obtain probabilities.
    threshold
        Of two classes, the second is the answer from this probability on. Ignored with more classes.
    temperature
        What logits are divided by before they become probabilities: above 1 less certain, below 1 more. The order
        of scans does not change. 1 leaves the network's answer as it is.
    training_range
        How the scans lay that taught the model; None if that was not recorded.
    feature_statistics
        What its pooled features of these scans look like; None if that was not recorded.

    Raises
    ------
    ContractError
        If a field has a value that no preprocessing or decision could follow.
    """

    shape: tuple[int, int, int] = (128, 128, 64)
    hu_window: tuple[float, float] = (-1000.0, 400.0)
    orientation: str = "LAS"
    quarter_turns: int = 1
    interpolation: Interpolation = "linear"
    channels: Channels = "last"
    outputs: int = 1
    labels: tuple[str, ...] = ("normal", "abnormal")
    activation: Activation = "identity"
    threshold: float = 0.5
    temperature: float = 1.0
    training_range: TrainingRange | None = None
    feature_statistics: FeatureStatistics | None = None

    def __post_init__(self) -> None:
        for complaint in (*validation_errors(self), *_to_plain_fields(self)):
            raise ContractError(f"Contract: {complaint}.")

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON form: equal contracts, equal hashes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def without_training_stats(self) -> Self:
        """The same without what is known of the training scans: everything that answers depend on."""
        return replace(self, training_range=None, feature_statistics=None)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input without its batch axis, e.g. ``(128, 128, 64, 1)``."""
        return {"last": (*self.shape, 1), "first": (1, *self.shape), "none": self.shape}[self.channels]

    def predicted_index(self, probabilities: Sequence[float]) -> int:
        """Index of the class that is the answer: by threshold between two classes, else the most probable."""
        if len(self.labels) == 2:
            return int(probabilities[1] >= self.threshold)
        return max(range(len(self.labels)), key=lambda index: probabilities[index])

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, schema version included; equal contracts, equal text."""
        # 400 and 400.0 are equal as numbers, but not as text.
        numbers = {name: float(getattr(self, name)) for name in ("threshold", "temperature")}
        window = [float(bound) for bound in self.hu_window]
        data = {"schema": SCHEMA, **asdict(self), "hu_window": window, **numbers}
        if self.without_training_stats == self:
            data = {
                name: data[name] for name in data if FIELD_SINCE_VERSION.get(name, 1) <= SCHEMA_WITHOUT_TRAINING_STATS
            } | {"schema": SCHEMA_WITHOUT_TRAINING_STATS}
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse what ``to_json`` wrote, now or in an older version.

        Raises
        ------
        ContractError
            If the text is no JSON object, of an unknown schema version, or lacks, misnames or mistypes a field.
        """
        data = _parse_object(text)
        version = data.pop("schema", None)
        if not is_int(version) or not 1 <= version <= SCHEMA:
            raise ContractError(
                f"The contract has schema version {version!r}; this ct3d-edge reads versions 1 to {SCHEMA}. Export "
                "the model again, or use the ct3d-edge version that wrote it."
            )
        known = {field.name for field in fields(cls) if FIELD_SINCE_VERSION.get(field.name, 1) <= version}
        if set(data) != known:
            raise ContractError(
                f"The contract's fields do not match schema version {version}: "
                f"missing {sorted(known - set(data))}, unknown {sorted(set(data) - known)}."
            )
        return cls(**{name: _parse_field(name, value) for name, value in data.items()})


def _parse_object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_constant=reject_non_finite_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"The contract is not valid JSON ({error}).") from error
    if not isinstance(data, dict):
        raise ContractError(f"The contract is a JSON {type(data).__name__}, not an object.")
    return data


def reject_non_finite_constant(name: str) -> None:
    """For ``json.loads``: NaN and Infinity, which Python reads, are not JSON and would slip through comparisons.

    Raises
    ------
    ValueError
        Always.
    """
    raise ValueError(f"{name} is not JSON")


def _to_plain_fields(contract: Contract) -> list[str]:
    found = {name: getattr(contract, name) for name in NESTED_FIELDS}
    return [
        f"{name} must be a {kind.__name__} or None, found {found[name]!r}"
        for name, kind in NESTED_FIELDS.items()
        if not isinstance(found[name], kind | None)
    ]


def _parse_field(name: str, value: Any) -> Any:
    if name in NESTED_FIELDS and value is not None:
        return NESTED_FIELDS[name].from_json(value)
    return to_tuples(value)
