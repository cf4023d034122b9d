"""Grad-CAM in closed form, and the derivative of a classifier head.

Grad-CAM in closed form.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (arXiv
1610.02391), equations 1 and 2: with features A of channels k and a logit y,

    weight_k = mean over positions of  d y / d A_k        map = relu( sum over k of weight_k A_k ).

Behind a global average pooling over Z positions every position has the same derivative, (d y / d pooled_k) / Z, so
that one backward pass through the dense layers gives all of them: no framework is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """``x -> x W``, W ``(inputs, outputs)``."""

    weights: NDArray[np.float64]

    def forward(self, x: Vector) -> Vector:
        """Apply it."""
        return x @ self.weights

    def backward(self, gradient: Vector, x: Vector) -> Vector:  # noqa: ARG002  # the same wherever x is
        """Derivative by ``x`` from the one by the output."""
        return self.weights @ gradient


@dataclass(frozen=True, eq=False)
class AddLayer:
    """``x -> x + b``, b ``(n,)`` or ``(1,)``."""

    bias: Vector

    def forward(self, x: Vector) -> Vector:
        """Apply it."""
        return x + self.bias

    def backward(self, gradient: Vector, x: Vector) -> Vector:  # noqa: ARG002
        """Derivative by ``x`` from the one by the output."""
        return gradient


@dataclass(frozen=True)
class ReluLayer:
    """``x -> max(x, 0)``."""

    def forward(self, x: Vector) -> Vector:
        """Apply it."""
        return np.maximum(x, 0)

    def backward(self, gradient: Vector, x: Vector) -> Vector:
        """Derivative by ``x`` from the one by the output: nothing passes where nothing came through."""
        return np.where(x > 0, gradient, 0)


HeadLayer = LinearLayer | AddLayer | ReluLayer


@dataclass(frozen=True, eq=False)
class ClassifierHead:
    """Dense layers with ReLU between them, as steps in their order."""

    steps: Sequence[HeadLayer]

    def logits(self, pooled: Vector) -> Vector:
        """Outputs before the last activation, ``(outputs,)``, of pooled features ``(C,)``."""
        x = pooled
        for step in self.steps:
            x = step.forward(x)
        return x

    def gradient(self, pooled: Vector, output: int) -> Vector:
        """Derivative ``(C,)`` of one logit by the pooled features ``(C,)``."""
        inputs, x = [], pooled
        for step in self.steps:
            inputs.append(x)
            x = step.forward(x)
        gradient = np.zeros_like(x)
        gradient[output] = 1
        for step, given in zip(reversed(self.steps), reversed(inputs), strict=True):
            gradient = step.backward(gradient, given)
        return gradient


def apply_activation(logits: Vector, last: str) -> Vector:
    """What the last operator of a network, ``"Sigmoid"``, ``"Softmax"`` or none, makes of logits ``(outputs,)``."""
    if last == "Sigmoid":
        return 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    if last == "Softmax":
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())
    return logits


def compute_gradcam(features: NDArray[np.float32], head: ClassifierHead, output: int) -> NDArray[np.float32]:
    """Where the features support one output: the positive part of `compute_class_activation`.

    Returns
    -------
    ndarray
        ``(a, b, c)`` float32, not below 0.
    """
    return np.maximum(compute_class_activation(features, head, output), 0)


def compute_class_activation(features: NDArray[np.float32], head: ClassifierHead, output: int) -> NDArray[np.float32]:
    """Where the features speak for one output, and where against it.

    Parameters
    ----------
    features
        ``(C, a, b, c)``: what the network pools, of one scan.
    head
        What it does behind the pooling.
    output
        Index of the logit.

    Returns
    -------
    ndarray
        ``(a, b, c)`` float32 in units of the logit; its sum is the first-order part of the logit.
    """
    channels = features.reshape(len(features), -1).astype(np.float64)
    weights = head.gradient(channels.mean(axis=1), output) / channels.shape[1]
    return (weights @ channels).reshape(features.shape[1:]).astype(np.float32)
