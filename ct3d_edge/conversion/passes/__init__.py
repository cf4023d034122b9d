"""The export compiler: rewrites an ONNX graph into an equal one that is faster or smaller on a device.

One rule per file; `pipeline` lists which of them run. Imports neither Keras nor ONNX Runtime.
"""
