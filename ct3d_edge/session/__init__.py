"""A model file in an ONNX Runtime session: provider selected, golden test rerun, run report, intermediate outputs."""
