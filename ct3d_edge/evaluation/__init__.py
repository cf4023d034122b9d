"""Evaluation of a model on scans of known class, and calibration on its validation scans.

Imports scikit-learn and SciPy, Keras (through ``conversion``) and ONNX Runtime (through ``session``) only when needed.
"""
