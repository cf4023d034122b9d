"""Keras, or an ONNX file from elsewhere, to a verified, self-describing ONNX file."""
