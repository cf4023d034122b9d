"""Grad-CAM in closed form.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization" (arXiv
1610.02391), equations 1 and 2: with features A of channels k and a logit y,

    weight_k = mean over positions of  d y / d A_k        map = relu( sum over k of weight_k A_k ).

Behind a global average pooling over Z positions every position has the same derivative, (d y / d pooled_k) / Z, so
that one backward pass through the dense layers gives all of them: no framework is needed.
"""

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.explain.head import Head


def grad_cam(features: NDArray[np.float32], head: Head, output: int) -> NDArray[np.float32]:
    """Where the features speak for one output: `class_activation` without what speaks against it.

    Returns
    -------
    ndarray
        ``(a, b, c)`` float32, not below 0.
    """
    return np.maximum(class_activation(features, head, output), 0)


def class_activation(features: NDArray[np.float32], head: Head, output: int) -> NDArray[np.float32]:
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
