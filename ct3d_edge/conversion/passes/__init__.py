"""The export compiler: rewrites an ONNX graph into an equal one that is faster or smaller on a device.

One rule a file; `pipeline` says which of them run. Knows neither Keras nor ONNX Runtime.
"""
