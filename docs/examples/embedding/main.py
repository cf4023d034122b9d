"""Probabilities of a CT by a model with the preprocessing inside: NumPy and ONNX Runtime, nothing else.

python main.py model.onnx scan.raw SLICES ROWS COLUMNS SLOPE INTERCEPT
"""

import os
import sys

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, at the import
import onnxruntime as ort

model, scan = sys.argv[1:3]
slices, rows, columns = (int(size) for size in sys.argv[3:6])
slope, intercept = (np.array(float(number), np.float32) for number in sys.argv[6:8])

voxels = np.fromfile(scan, "<i2").reshape(slices, rows, columns)
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
(probabilities,) = session.run(["probabilities"], {"voxels": voxels, "slope": slope, "intercept": intercept})
print(" ".join(f"{probability:.6f}" for probability in probabilities))
