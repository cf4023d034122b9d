"""PyTorch with the same weights, carried over from Keras's arrays; eager or compiled, any layout and precision."""

from typing import Any

import numpy as np

from bench.fixture import Fixture
from bench.peers import Network, Volumes

NEEDS = ("torch",)
PACKAGES = ("torch",)
EPSILON = 1e-3
"""Keras's default for BatchNormalization; PyTorch's is 1e-5."""


def network(
    fixture: Fixture,
    threads: int,
    *,
    device: str = "cpu",
    precision: str = "float32",
    channels_last: bool = False,
    compiled: bool = False,
    tf32: bool = False,
) -> Network:
    """Inference mode; inputs come from and answers go to NumPy arrays."""
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no CUDA device")
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    kind = getattr(torch, precision)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    model = _network(fixture).eval().to(device, kind, memory_format=layout)
    forward = torch.compile(model) if compiled else model

    def run(volumes: Volumes) -> Volumes:
        with torch.inference_mode():
            batch = torch.from_numpy(volumes).unsqueeze(1).to(device, kind).contiguous(memory_format=layout)
            return np.asarray(forward(batch).float().cpu().numpy())

    return run


def _network(fixture: Fixture) -> Any:
    """Blocks of convolution, pooling and normalisation, a mean, dense layers; as many as there are weights for."""
    from torch import nn

    weights = np.load(fixture.weights)
    stems = sorted({key.rpartition(".")[0] for key in weights})
    dense = [stem for stem in stems if stem.endswith("Dense")]
    layers: list[Any] = []
    for stem in stems:
        arrays = [weights[f"{stem}.{number}"] for number in range(4) if f"{stem}.{number}" in weights]
        if stem.endswith("Conv3D"):
            layers += [_convolution(*arrays), nn.ReLU(), nn.MaxPool3d(2)]
        elif stem.endswith("BatchNormalization"):
            layers.append(_normalisation(*arrays))
        elif stem == dense[0]:
            layers += [nn.AdaptiveAvgPool3d(1), nn.Flatten()]
        if stem in dense:
            layers += [_dense(*arrays), nn.Sigmoid() if stem == dense[-1] else nn.ReLU()]
    return nn.Sequential(*layers)


def _convolution(kernel: Any, bias: Any) -> Any:
    """Keras keeps kernels as ``(W, H, D, in, out)``, PyTorch as ``(out, in, W, H, D)``."""
    from torch import nn

    width, height, depth, before, after = kernel.shape
    return _filled(nn.Conv3d(before, after, (width, height, depth)), kernel.transpose(4, 3, 0, 1, 2), bias)


def _dense(kernel: Any, bias: Any) -> Any:
    from torch import nn

    return _filled(nn.Linear(*kernel.shape), kernel.T, bias)


def _filled(layer: Any, weight: Any, bias: Any) -> Any:
    import torch

    layer.weight.data = torch.from_numpy(np.ascontiguousarray(weight))
    layer.bias.data = torch.from_numpy(bias)
    return layer


def _normalisation(scale: Any, shift: Any, mean: Any, variance: Any) -> Any:
    import torch
    from torch import nn

    layer = _filled(nn.BatchNorm3d(len(scale), eps=EPSILON), scale, shift)
    layer.running_mean, layer.running_var = torch.from_numpy(mean), torch.from_numpy(variance)
    return layer
