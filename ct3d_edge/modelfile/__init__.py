"""An ONNX file as ct3d-edge ships it: contract, golden test and provenance inside, read and checked."""
