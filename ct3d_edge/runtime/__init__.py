"""ONNX Runtime, and everything that is known about it: model files, providers, sessions, golden tests."""
