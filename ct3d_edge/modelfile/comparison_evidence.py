"""How a model did against another one on the same labelled scans, in a form that goes with the model.

A training run holds it as ``comparison.json``; ``export`` puts it into the provenance of the model file. It has only
figures that neither temperature nor threshold changes, so that it stays true when these are fitted again.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from msgspec import Meta

from ct3d_edge.errors import ModelError
from ct3d_edge.json_validation import Count, Fraction, Sha256, Text, convert, parse_object

RUN_COMPARISON = "comparison.json"
"""File of a training run."""

SCHEMA = 1
"""Version of the JSON form; raised when the meaning of a field changes."""

HEX_DIGITS = 12
"""Of a hash in a line for people."""

Difference = Annotated[float, Meta(ge=-1, le=1)]


@dataclass(frozen=True)
class ComparisonEvidence:
    """A paired comparison of a model with its reference.

    Parameters
    ----------
    model_sha256, reference_sha256
        Of the files that were compared, .keras or .onnx.
    student
        Whether the model was trained to predict what the reference predicts.
    data
        What the scans are: ``"scans"`` or ``"phantoms"``.
    data_sha256
        Of the sorted content hashes of the scans, a line each.
    scans
        How many of each class.
    unpredicted
        How many of them only the reference has a prediction for; they count as wrong predictions of the model.
    auc, reference_auc
        Areas under the ROC curves.
    difference, low, high
        Of the areas, model minus reference, with DeLong's 95 % interval.
    bootstrap_low, bootstrap_high
        Interval of the paired bootstrap.
    specificity, sensitivity, reference_sensitivity
        Sensitivity of both at the specificity of the reference.
    margin
        By how much the model may be worse, in AUC.
    """

    model_sha256: Sha256
    reference_sha256: Sha256
    student: bool
    data: Text
    data_sha256: Sha256
    scans: tuple[Count, Count]
    unpredicted: Annotated[int, Meta(ge=0)]
    auc: Fraction
    reference_auc: Fraction
    difference: Difference
    low: Difference
    high: Difference
    bootstrap_low: Difference
    bootstrap_high: Difference
    specificity: Fraction
    sensitivity: Fraction
    reference_sensitivity: Fraction
    margin: Fraction

    @property
    def non_inferior(self) -> bool:
        """Whether the lower ends of both intervals are above minus the margin."""
        return min(self.low, self.bootstrap_low) > -self.margin

    def describe(self) -> str:
        """One line for people."""
        relation = "student of" if self.student else "compared with"
        outcome = "non-inferior" if self.non_inferior else "not shown to be non-inferior"
        return (
            f"{relation} {self.reference_sha256[:HEX_DIGITS]}..., AUC difference {self.difference:+.3f} "
            f"({self.low:+.3f} to {self.high:+.3f}) on {sum(self.scans)} {self.data}; {outcome} at a margin of "
            f"{self.margin:g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; ``non_inferior`` is for readers, and not read again."""
        return {"schema": SCHEMA, **asdict(self), "non_inferior": self.non_inferior}

    @classmethod
    def from_dict(cls, data: dict[str, Any], what: str) -> Self:
        """Parse the JSON form; ``what`` begins the messages.

        Raises
        ------
        ModelError
            If it is of another schema, or a field is missing or has another type or range.
        """
        if data.get("schema") != SCHEMA:
            raise ModelError(f"{what} has schema {data.get('schema')!r}; this ct3d-edge reads {SCHEMA}. Compare again.")
        return convert(data, cls, what, ModelError)


def read_run_evidence(file: Path) -> ComparisonEvidence:
    """Read the ``comparison.json`` of a training run.

    Raises
    ------
    ModelError
        If it cannot be read, or is not what `ComparisonEvidence.to_dict` gives.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ModelError(f"The comparison {file} cannot be read: {error.strerror or error}.") from error
    what = f"The comparison {file}"
    return ComparisonEvidence.from_dict(parse_object(text, what, ModelError), what)


def to_json(evidence: ComparisonEvidence) -> str:
    """The content of ``comparison.json``."""
    return json.dumps(evidence.to_dict(), indent=1) + "\n"
