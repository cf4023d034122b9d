"""Execution providers of ONNX Runtime: names, options, availability, libraries, engines."""
