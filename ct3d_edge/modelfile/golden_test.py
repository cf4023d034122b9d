"""The golden test: known inputs, and the outputs of the network for them at its export.

A device verifies itself offline with it. The inputs are made from seeds (`make_golden_input`) and selected so that
the network is unsure of them (`golden_search`). Besides the probabilities it has sketches of tensors inside
(`tensor_sketch`): a changed weight may change few probabilities, but hardly leaves every layer as it was.
"""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ct3d_edge.errors import ModelError
from ct3d_edge.json_validation import Finite, Fraction, convert, parse_object
from ct3d_edge.modelfile.golden_input import FIRST_RECIPE, RECIPE, Blend, make_golden_input
from ct3d_edge.modelfile.tensor_sketch import TensorSketch

FIRST_RECIPE_LIMITATION = (
    "it was made before inputs were selected of which the network is unsure, and compares no tensor: a changed file "
    "may pass it"
)

NAME = "The golden test inside the model file"
"""As messages call it."""


@dataclass(frozen=True)
class GoldenTest:
    """Expected outputs of a model for known inputs.

    Parameters
    ----------
    recipe
        Name of the function that makes the inputs.
    inputs
        Two seeds and a weight each, see `make_golden_input`.
    expected
        Probabilities ``(input, class)``.
    tolerance
        Largest difference of a probability that passes.
    tensors
        Sketches of tensors inside the graph; may be empty.
    tensor_tolerance
        Largest difference of their values that passes, as a fraction of the tensor's spread.
    weakness
        Why the probabilities are a weak test of the file; None if they are not.
    """

    recipe: str
    inputs: Annotated[tuple[Blend, ...], Meta(min_length=1)]
    expected: tuple[tuple[Finite, ...], ...]
    tolerance: Fraction
    tensors: tuple[TensorSketch, ...] = ()
    tensor_tolerance: Fraction = 0.0
    weakness: str | None = None

    @property
    def uses_first_recipe(self) -> bool:
        """Whether it has the first recipe, whose inputs were not selected for the network."""
        return self.recipe == FIRST_RECIPE

    @property
    def limitation(self) -> str | None:
        """Why the test is weak; None if it is not."""
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
        data = parse_object(text, NAME, ModelError)
        if "inputs" not in data and isinstance(data.get("seeds"), list):  # as it was before inputs were blends
            data["inputs"] = [(seed, seed, 0) for seed in data["seeds"]]
        golden = convert(data, cls, NAME, ModelError)
        if not golden._is_valid(classes):
            raise ModelError(
                f"{NAME} cannot be run: recipe {golden.recipe!r} (this ct3d-edge knows {FIRST_RECIPE!r} and "
                f"{RECIPE!r}), {len(golden.inputs)} inputs, {len(golden.expected)} outputs for {classes} classes, "
                f"{len(golden.tensors)} tensors."
            )
        return golden

    def _is_valid(self, classes: int) -> bool:
        return (
            self.recipe in (FIRST_RECIPE, RECIPE)
            and len(self.inputs) == len(self.expected)
            and all(len(row) == classes for row in self.expected)
            and all(len(sketch.values) == len(self.inputs) for sketch in self.tensors)
        )

    def volumes(self, shape: tuple[int, int, int]) -> list[NDArray[np.float32]]:
        """The inputs, each ``shape`` float32 in [0, 1]."""
        return [make_golden_input(self.recipe, blend, shape) for blend in self.inputs]
