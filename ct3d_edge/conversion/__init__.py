"""Keras to a proven, self-describing ONNX file."""

from ct3d_edge.conversion.convert import to_onnx
from ct3d_edge.conversion.export import Exported, export_model
from ct3d_edge.conversion.proof import LIMIT, MINIMUM_VOLUMES, Proof, keras_probabilities, prove
from ct3d_edge.conversion.source import Source, load_source

__all__ = [
    "LIMIT",
    "MINIMUM_VOLUMES",
    "Exported",
    "Proof",
    "Source",
    "export_model",
    "keras_probabilities",
    "load_source",
    "prove",
    "to_onnx",
]
