"""What a model expects of a volume and what its output means: the contract that travels inside the model file.

A contract is written once, when a network is trained or exported, and read by everything that feeds the
network afterwards. It is the only place where preprocessing constants live.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from ct3d_edge.contract_values import Activation, Channels, Interpolation, complaints
from ct3d_edge.errors import ContractError
from ct3d_edge.feature_statistics import FeatureStatistics
from ct3d_edge.json_values import frozen, is_int
from ct3d_edge.training_range import TrainingRange

SCHEMA = 3
"""Version of the JSON form; raised when a field comes or changes its meaning."""

SINCE = {"temperature": 2, "training_range": 3, "feature_statistics": 3}
"""Which version a field came with; an older one means its default."""

NESTED: dict[str, type[TrainingRange | FeatureStatistics]] = {
    "training_range": TrainingRange,
    "feature_statistics": FeatureStatistics,
}

UNTAUGHT = 2
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
        for complaint in (*complaints(self), *_unnested(self)):
            raise ContractError(f"Contract: {complaint}.")

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON form: equal contracts, equal hashes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def untaught(self) -> Self:
        """The same without what is known of the training scans: everything that answers depend on."""
        return replace(self, training_range=None, feature_statistics=None)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input without its batch axis, e.g. ``(128, 128, 64, 1)``."""
        return {"last": (*self.shape, 1), "first": (1, *self.shape), "none": self.shape}[self.channels]

    def winner(self, probabilities: Sequence[float]) -> int:
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
        if self.untaught == self:
            data = {name: data[name] for name in data if SINCE.get(name, 1) <= UNTAUGHT} | {"schema": UNTAUGHT}
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
        known = {field.name for field in fields(cls) if SINCE.get(field.name, 1) <= version}
        if set(data) != known:
            raise ContractError(
                f"The contract's fields do not match schema version {version}: "
                f"missing {sorted(known - set(data))}, unknown {sorted(set(data) - known)}."
            )
        return cls(**{name: _parsed(name, value) for name, value in data.items()})


def _parse_object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"The contract is not valid JSON ({error}).") from error
    if not isinstance(data, dict):
        raise ContractError(f"The contract is a JSON {type(data).__name__}, not an object.")
    return data


def refuse_constant(name: str) -> None:
    """For ``json.loads``: NaN and Infinity, which Python reads, are not JSON and would slip through comparisons.

    Raises
    ------
    ValueError
        Always.
    """
    raise ValueError(f"{name} is not JSON")


def _unnested(contract: Contract) -> list[str]:
    found = {name: getattr(contract, name) for name in NESTED}
    return [
        f"{name} must be a {kind.__name__} or None, found {found[name]!r}"
        for name, kind in NESTED.items()
        if not isinstance(found[name], kind | None)
    ]


def _parsed(name: str, value: Any) -> Any:
    if name in NESTED and value is not None:
        return NESTED[name].from_json(value)
    return frozen(value)
