"""Scans of even brightness, for which the tiny model of the builders gives known answers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from builders import LAS, MakeScan

from ct3d_edge.contract import Contract
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split_file import write_split

GradedFolder = Callable[..., Path]

THRESHOLD = 0.25
"""The tiny model's probability of its second class falls from 0.5 at -1000 HU to 0.08 at 400 HU; here it is 0.25."""

DARK, BRIGHT = -900, 200
"""HU on the two sides of that threshold."""


def graded_folder(make_scan: MakeScan, folder: Path, **classes: Sequence[int]) -> Path:
    """Write a folder of scans for each class, one of each level in HU; no two have the same content."""
    number = 0
    for name, levels in classes.items():
        for level in levels:
            number += 1
            voxels = np.full((24, 20, 12), level, np.int16)
            voxels[1, 1, 1] += number
            make_scan(f"scan_{number:02}.nii.gz", voxels=voxels, affine=LAS, folder=folder / name)
    return folder


def graded_run(scans: Path, run: Path) -> Path:
    """Write the files of a training run whose network answers the surer of the second class the brighter a scan is."""
    import keras
    from networks import SHAPE

    volume = keras.Input((*SHAPE, 1))
    # A long float32 sum of equal numbers rounds to one side, and differently in Keras and ONNX Runtime.
    mean = keras.layers.GlobalAveragePooling3D()(keras.layers.AveragePooling3D(4)(volume))
    network = keras.Model(volume, keras.layers.Dense(1, activation="sigmoid")(mean))
    network.layers[-1].set_weights([np.array([[12.0]]), np.array([-5.0])])
    run.mkdir()
    network.save(run / "model.keras")
    (run / "contract.json").write_text(Contract(shape=SHAPE).to_json())
    write_split(run / "split.json", create_split(scans, validation=0.5, test=0.25))
    return run
