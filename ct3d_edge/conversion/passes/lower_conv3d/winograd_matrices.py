"""The matrices of minimal filtering F(m, r): m outputs of a filter of r taps from m + r - 1 products.

Source: A. L. Toom 1963 and S. A. Cook 1966; S. Winograd, "Arithmetic Complexity of Computations", 1980; for networks
A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308. A polynomial product is
found from its values at m + r - 2 points and at infinity; a filter is the transpose of a product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2")))
"""Small ones, so that powers stay near one and rounding with them. The second is 1, where every power is 1."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WinogradMatrices:
    """``outputs = output_transform @ ((kernel_transform @ taps) * (input_transform @ inputs))``.

    Parameters
    ----------
    input_transform
        ``(products, products)``: inputs to products.
    kernel_transform
        ``(products, taps)``.
    output_transform
        ``(outputs, products)``. Column 1 is all ones, so what is added to product 1 reaches every output unchanged.
    """

    input_transform: Matrix
    kernel_transform: Matrix
    output_transform: Matrix

    @property
    def outputs(self) -> int:
        """Outputs of a tile, m."""
        return len(self.output_transform)

    @property
    def products(self) -> int:
        """Products of a tile, m + r - 1."""
        return len(self.input_transform)


def make_winograd_matrices(outputs: int, taps: int) -> WinogradMatrices:
    """F(outputs, taps), computed in rational numbers."""
    points = POINTS[: outputs + taps - 2]
    inverse = _inverse(_powers(points, outputs + taps - 1))
    return WinogradMatrices(
        input_transform=_floats(inverse).T,
        kernel_transform=_floats(_powers(points, taps)),
        output_transform=_floats(_powers(points, outputs)).T,
    )


def _powers(points: Sequence[Fraction], count: int) -> list[list[Fraction]]:
    """Values of ``count`` coefficients' monomials at each point, and at infinity, where the last one alone counts."""
    rows = [[point**exponent for exponent in range(count)] for point in points]
    return [*rows, [Fraction(int(exponent == count - 1)) for exponent in range(count)]]


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """By Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(Fraction(int(n == m)) for m in range(size))] for n, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(n for n in range(column, size) if rows[n][column] != 0)
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for n in range(size):
            if n != column:
                factor = rows[n][column]
                rows[n] = [a - factor * b for a, b in zip(rows[n], rows[column], strict=True)]
    return [row[size:] for row in rows]


def _floats(rows: list[list[Fraction]]) -> Matrix:
    return np.array([[float(value) for value in row] for row in rows])
