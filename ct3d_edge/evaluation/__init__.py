"""A model judged on scans of known class, and calibrated on those that may be used for it.

Knows scikit-learn; reaches Keras through ``conversion`` and ONNX Runtime through ``runtime``, and neither before it is
needed.
"""
