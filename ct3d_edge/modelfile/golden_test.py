"""The golden test: known inputs, and what the network gave for them where it was exported.

A device verifies itself offline with it. The inputs are made from seeds (`make_golden_input`) and chosen so that the
network is unsure of them (`golden_search`). Beside the probabilities, sketches of tensors inside are kept
(`sketch`): a changed weight may leave few probabilities as they were, but hardly every layer.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import reject_non_finite_constant
from ct3d_edge.errors import ModelError
from ct3d_edge.modelfile.golden_input import BLEND_STEPS, FIRST_RECIPE, MAX_SEED, RECIPE, Blend, make_golden_input
from ct3d_edge.modelfile.tensor_sketch import TensorSketch

FIRST_RECIPE_LIMITATION = (
    "it was made before inputs were chosen of which the network is unsure, and compares no tensor: a changed file may "
    "pass it"
)


@dataclass(frozen=True)
class GoldenTest:
    """Expected answers of a model to known inputs.

    Parameters
    ----------
    recipe
        How inputs are made.
    inputs
        Two seeds and a weight each, see `make_golden_input`.
    expected
        Probabilities ``(input, class)``.
    tolerance
        Largest difference of a probability that passes.
    tensors
        What is known of tensors inside the graph; empty if nothing is.
    tensor_tolerance
        Largest difference of their values that passes, as a part of the tensor's spread.
    weakness
        Why the probabilities say little about the file; None if they say enough.
    """

    recipe: str
    inputs: tuple[Blend, ...]
    expected: tuple[tuple[float, ...], ...]
    tolerance: float
    tensors: tuple[TensorSketch, ...] = ()
    tensor_tolerance: float = 0.0
    weakness: str | None = None

    @property
    def uses_first_recipe(self) -> bool:
        """Whether it is of the first recipe, whose inputs were not chosen for the network."""
        return self.recipe == FIRST_RECIPE

    @property
    def limitation(self) -> str | None:
        """Why the test is weak, in words; None if it is not."""
        return FIRST_RECIPE_LIMITATION if self.uses_first_recipe else self.weakness

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, classes: int) -> Self:
        """Parse what ``to_json`` wrote for a model with so many classes, now or before inputs were blends.

        Raises
        ------
        ModelError
            If it is not a golden test, or one whose recipe this version does not know.
        """
        try:
            golden = cls._of(json.loads(text, parse_constant=reject_non_finite_constant))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ModelError(f"The golden test inside the model file is damaged ({error!r}).") from error
        if not golden._is_valid(classes):
            raise ModelError(
                f"The golden test inside the model file cannot be run: recipe {golden.recipe!r} (this ct3d-edge knows "
                f"{FIRST_RECIPE!r} and {RECIPE!r}), {len(golden.inputs)} inputs, {len(golden.expected)} answers for "
                f"{classes} classes, tolerance {golden.tolerance}, {len(golden.tensors)} tensors."
            )
        return golden

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Self:
        blends = data["inputs"] if "inputs" in data else [(seed, seed, 0) for seed in data["seeds"]]
        return cls(
            recipe=data["recipe"],
            inputs=tuple((int(one), int(other), int(weight)) for one, other, weight in blends),
            expected=tuple(tuple(map(float, row)) for row in data["expected"]),
            tolerance=float(data["tolerance"]),
            tensors=tuple(TensorSketch.of(entry) for entry in data.get("tensors", ())),
            tensor_tolerance=float(data.get("tensor_tolerance", 0.0)),
            weakness=None if data.get("weakness") is None else str(data["weakness"]),
        )

    def _is_valid(self, classes: int) -> bool:
        numbers = [number for row in self.expected for number in row]
        return (
            self.recipe in (FIRST_RECIPE, RECIPE)
            and len(self.inputs) == len(self.expected) > 0
            and all(0 <= seed <= MAX_SEED for blend in self.inputs for seed in blend[:2])
            and all(0 <= weight <= BLEND_STEPS for _, _, weight in self.inputs)
            and all(len(row) == classes for row in self.expected)
            and all(map(math.isfinite, numbers))
            and 0 <= self.tolerance <= 1
            and all(sketch.is_valid(len(self.inputs)) for sketch in self.tensors)
            and 0 <= self.tensor_tolerance <= 1
        )

    def volumes(self, shape: tuple[int, int, int]) -> list[NDArray[np.float32]]:
        """The inputs, each ``shape`` float32 in [0, 1]."""
        return [make_golden_input(self.recipe, blend, shape) for blend in self.inputs]
