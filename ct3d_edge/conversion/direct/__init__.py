"""A Keras network to ONNX without tf2onnx: its operations are recorded and written one by one."""
