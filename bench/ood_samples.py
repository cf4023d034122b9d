"""Out-of-distribution scans for a chest network: other body parts, and faults of scanners and converters."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ct3d_edge.datasets.phantoms.phantom import las_affine, make_phantom
from ct3d_edge.scan.volume import Volume

SHAPE = (256, 256, 40)
SPACING = (1.5, 1.5, 8.0)

Hu = NDArray[Any]


def make_chest(seed: int, shape: tuple[int, int, int] | None = SHAPE) -> Volume:
    """A phantom, every second one abnormal."""
    phantom = make_phantom(seed, abnormal=seed % 2 == 1, shape=shape)
    return Volume(phantom.hu, affine=las_affine(phantom.hu.shape, phantom.spacing))


def _cut(hu: Hu, low: float, high: float) -> Hu:
    """A part of the slices, from the feet on; the network's input stretches it."""
    return hu[:, :, round(low * hu.shape[2]) : round(high * hu.shape[2])]


def _noisy(hu: Hu) -> Hu:
    return (hu + np.random.default_rng(0).normal(0, 100, hu.shape)).astype(np.int16)


CORRUPTIONS: dict[str, Callable[[Hu], Hu]] = {
    "HU 100 too high": lambda hu: (hu + 100).astype(np.int16),
    "HU 300 too high": lambda hu: (hu + 300).astype(np.int16),
    "negative": lambda hu: (-600 - hu).astype(np.int16),
    "upside down": lambda hu: hu[:, :, ::-1],
    "left and right swapped": lambda hu: hu[::-1],
    "back and front swapped": lambda hu: hu[:, ::-1],
    "enlarged twice": lambda hu: hu[hu.shape[0] // 4 : -hu.shape[0] // 4, hu.shape[1] // 4 : -hu.shape[1] // 4],
    "shrunk to half": lambda hu: np.pad(
        hu[::2, ::2], [(hu.shape[0] // 4,) * 2, (hu.shape[1] // 4,) * 2, (0, 0)], constant_values=-1000
    ),
    "noise of 100 HU": _noisy,
    "lower third": lambda hu: _cut(hu, 0, 1 / 3),
    "upper third": lambda hu: _cut(hu, 2 / 3, 1),
}
"""What is done to a phantom."""


def corrupt(scan: Volume, name: str) -> Volume:
    """A phantom, changed; its affine stays, as a header that nobody corrected would."""
    return replace(scan, stored=CORRUPTIONS[name](scan.stored))


def _grid() -> tuple[Hu, Hu, Hu]:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return x, y, z


def make_abdomen(seed: int) -> Volume:
    """A cylinder of organs: fat, muscle, spine, bowel with gas."""
    draw, (x, y, z) = np.random.default_rng(seed), _grid()
    wide, deep = draw.uniform(0.7, 0.9), draw.uniform(0.5, 0.65)
    inside = (x / wide) ** 2 + (y / deep) ** 2
    texture = ndimage.gaussian_filter(draw.normal(0, 1, SHAPE), (6, 6, 1.5))
    texture /= texture.std()
    hu = np.where(inside < 1, -100, -1000) + np.where(inside < 0.8, 145 + 15 * texture, 0)
    hu = np.where((inside < 0.5) & (y > 0) & (texture > 1.9), -950, hu)
    hu = np.where((x / 0.1) ** 2 + ((y + 0.6 * deep) / 0.12) ** 2 < 1, 250 + 50 * np.sin(12 * z), hu)
    return _volume(hu, draw)


def make_cylinder(seed: int) -> Volume:
    """Water with inserts of four densities, as a physicist's test object has."""
    draw, (x, y, _) = np.random.default_rng(seed), _grid()
    hu = np.where(x**2 + y**2 < draw.uniform(0.5, 0.8), 0, -1000)
    for number, density in enumerate((-800, -100, 120, 380)):
        angle = draw.uniform(0, 0.4) + number * np.pi / 2
        hu = np.where((x - 0.4 * np.cos(angle)) ** 2 + (y - 0.4 * np.sin(angle)) ** 2 < 0.02, density, hu)
    return _volume(hu, draw)


def make_noise(seed: int) -> Volume:
    """Nothing but numbers of the window."""
    return Volume(
        np.random.default_rng(seed).integers(-1000, 400, SHAPE).astype(np.int16), affine=las_affine(SHAPE, SPACING)
    )


SYNTHETIC_SCANS: dict[str, Callable[[int], Volume]] = {
    "abdomen": make_abdomen,
    "water cylinder": make_cylinder,
    "noise": make_noise,
}
"""What is made by formulas."""


def _volume(hu: Hu, draw: np.random.Generator) -> Volume:
    return Volume((hu + draw.normal(0, 15, SHAPE)).astype(np.int16), affine=las_affine(SHAPE, SPACING))


def make_ood_scans(chests: list[Volume], drawn: int) -> Iterator[tuple[str, Volume]]:
    """Every kind with each of its scans."""
    for name in CORRUPTIONS:
        yield from ((name, corrupt(scan, name)) for scan in chests)
    for name, make in SYNTHETIC_SCANS.items():
        yield from ((name, make(seed)) for seed in range(drawn))
