"""The contract of a model: what it expects of a volume, what its output means, and what its training scans were like.

It is written when a network is trained or exported, and stored in the model file. It holds every preprocessing setting.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import permutations, product
from typing import Annotated, Literal, Self

from msgspec import Meta

from ct3d_edge.errors import ContractError
from ct3d_edge.formatting import plural
from ct3d_edge.json_validation import Count, Fraction, check_fields, parse_object, require_names

# Of a size that HU, millimetres and probabilities have.
Number = Annotated[float, Meta(ge=-1e9, le=1e9)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
Vector = tuple[Number, ...]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ContractError(f"Contract: {message}.")


@dataclass(frozen=True)
class FeatureStatistics:
    """A Gaussian in few directions and noise in all others; see `ct3d_edge.quality_control.domain_shift`.

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
        Largest distance that is not flagged.
    scans, held_out
        How many scans it was fitted on, and how many others gave the threshold.

    Raises
    ------
    ContractError
        If a field has another type or range, or these numbers do not fit each other.
    """

    mean: Annotated[Vector, Meta(min_length=1)]
    directions: tuple[Vector, ...]
    variances: tuple[Positive, ...]
    residual_variance: Positive
    threshold: Positive
    scans: Count
    held_out: Count

    def __post_init__(self) -> None:
        check_fields(self, "Contract: feature_statistics.", ContractError)
        lengths = [len(direction) for direction in self.directions]
        _require(
            lengths == [self.features] * len(self.variances),
            f"feature_statistics.directions must hold, for each of {len(self.variances)} variances, one vector as long "
            f"as mean ({self.features}), found lengths {lengths}",
        )

    @property
    def features(self) -> int:
        """How many features the network pools."""
        return len(self.mean)


BODY_AXES = ("left to right", "front to back", "along the body")
"""Of a patient, in the order in which ranges hold them."""

Bounds = tuple[Positive, Positive]
"""Low and high, both inside."""

ByAxis = tuple[Bounds, Bounds, Bounds]


@dataclass(frozen=True)
class TrainingRange:
    """Bounds of what was measured on training scans; each axis is one of the body, see ``BODY_AXES``.

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
        If a field has another type or range, or a low value is above its high one.
    """

    scans: Count
    extent_mm: ByAxis
    spacing_mm: ByAxis
    slices: Bounds

    def __post_init__(self) -> None:
        check_fields(self, "Contract: training_range.", ContractError)
        sides = {"extent_mm": self.extent_mm, "spacing_mm": self.spacing_mm, "slices": (self.slices,)}
        for name, (low, high) in ((key, side) for key in sides for side in sides[key]):
            _require(low <= high, f"training_range.{name} must hold (low, high), found {(low, high)}")


Channels = Literal["last", "first", "none"]
Activation = Literal["identity", "sigmoid", "softmax"]
Interpolation = Literal["linear"]

AXIS_CODES = frozenset("".join(letters) for axes in permutations(("LR", "AP", "SI")) for letters in product(*axes))
"""One direction of each body axis, such as ``"LAS"`` or ``"PIR"``."""

Temperature = Annotated[float, Meta(ge=0.01, le=100)]
"""Beyond these hardly anything but 0, 0.5 and 1 comes out."""

SCHEMA = 3
"""Version of the JSON form; raised when a field comes or changes its meaning."""

FIELD_SINCE_VERSION = {"temperature": 2, "training_range": 3, "feature_statistics": 3}
"""Which version a field came with; an older one means its default."""

NESTED_FIELDS = {"training_range": TrainingRange, "feature_statistics": FeatureStatistics}

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
        a scan is turned before anything else, or ``"stored"``: array order as in the file.
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
        Of two classes, the second is predicted from this probability on. Ignored with more classes.
    temperature
        What logits are divided by before they become probabilities: above 1 less certain, below 1 more. The order
        of scans does not change. 1 leaves the network's output as it is.
    training_range
        Size and spacing of the training scans; None if that was not recorded.
    feature_statistics
        Distribution of its pooled features of these scans; None if that was not recorded.

    Raises
    ------
    ContractError
        If a field has another type or range, or a value that no preprocessing or decision could follow.
    """

    shape: tuple[Count, Count, Count] = (128, 128, 64)
    hu_window: tuple[Number, Number] = (-1000.0, 400.0)
    orientation: str = "LAS"
    quarter_turns: int = 1
    interpolation: Interpolation = "linear"
    channels: Channels = "last"
    outputs: int = 1
    labels: Annotated[tuple[str, ...], Meta(min_length=2)] = ("normal", "abnormal")
    activation: Activation = "identity"
    threshold: Fraction = 0.5
    temperature: Temperature = 1.0
    training_range: TrainingRange | None = None
    feature_statistics: FeatureStatistics | None = None

    def __post_init__(self) -> None:
        check_fields(self, "Contract: ", ContractError)
        _check_consistency(self)

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON form: equal contracts, equal hashes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def without_training_stats(self) -> Self:
        """The same without what is known of the training scans: everything that predictions depend on."""
        return replace(self, training_range=None, feature_statistics=None)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input without its batch axis, e.g. ``(128, 128, 64, 1)``."""
        return {"last": (*self.shape, 1), "first": (1, *self.shape), "none": self.shape}[self.channels]

    def predicted_index(self, probabilities: Sequence[float]) -> int:
        """Index of the predicted class: by threshold between two classes, else the most probable."""
        if len(self.labels) == 2:
            return int(probabilities[1] >= self.threshold)
        return max(range(len(self.labels)), key=lambda index: probabilities[index])

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, schema version included; equal contracts, equal text."""
        known = any(getattr(self, name) for name in NESTED_FIELDS)
        version = SCHEMA if known else SCHEMA_WITHOUT_TRAINING_STATS
        data = {name: value for name, value in asdict(self).items() if name in _field_names(version)}
        return json.dumps({"schema": version, **data}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse what ``to_json`` wrote, now or in an older version.

        Raises
        ------
        ContractError
            If the text is no JSON object, of an unknown schema version, or lacks, misnames or mistypes a field.
        """
        data = parse_object(text, "The contract", ContractError)
        version = data.pop("schema", None)
        if type(version) is not int or not 1 <= version <= SCHEMA:
            raise ContractError(
                f"The contract has schema version {version!r}; this ct3d-edge reads versions 1 to {SCHEMA}. Export "
                "the model again, or use the ct3d-edge version that wrote it."
            )
        what = f"The contract's fields do not match schema version {version}"
        require_names(data, _field_names(version), what, ContractError)
        for name, kind in NESTED_FIELDS.items():
            if isinstance(data.get(name), dict):
                require_names(data[name], {field.name for field in fields(kind)}, f"Contract: {name}", ContractError)
        return cls(**data)


def _field_names(version: int) -> set[str]:
    return {field.name for field in fields(Contract) if FIELD_SINCE_VERSION.get(field.name, 1) <= version}


def _check_consistency(contract: Contract) -> None:
    """Checks beyond the types of its fields."""
    window, labels, outputs = contract.hu_window, contract.labels, contract.outputs
    _require(window[0] < window[1], f"hu_window must be (low, high) with low < high, found {window!r}")
    _require(
        contract.orientation in {"stored", *AXIS_CODES},
        f"orientation must be 'stored' or an axis code such as 'LAS', found {contract.orientation!r}",
    )
    _require(  # no control characters: a model file from elsewhere must not steer the terminal that shows it
        all(map(str.isprintable, labels)) and len({*labels} - {""}) == len(labels),
        f"labels must be two or more different printable names, found {labels!r}",
    )
    _require(
        outputs in ((1, 2) if len(labels) == 2 else (len(labels),)),
        f"{len(labels)} labels do not fit a network with {plural(outputs, 'output')}",
    )
    _require(
        contract.activation == "identity" or (contract.activation == "sigmoid") == (outputs == 1),
        f"activation {contract.activation!r} does not fit a network with {plural(outputs, 'output')}",
    )
