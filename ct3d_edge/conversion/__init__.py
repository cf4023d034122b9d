"""Keras, or an ONNX file from elsewhere, to a proven, self-describing ONNX file."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ct3d_edge.conversion.convert import to_onnx
    from ct3d_edge.conversion.deliver import Exported
    from ct3d_edge.conversion.export import export_model
    from ct3d_edge.conversion.optimize import optimize_model
    from ct3d_edge.conversion.passes import Level, Step, Target
    from ct3d_edge.conversion.pooling import pooled_of
    from ct3d_edge.conversion.proof import LIMIT, MINIMUM_VOLUMES, Proof, prove
    from ct3d_edge.conversion.source import Source, load_source

_HOMES = {
    "LIMIT": "proof",
    "MINIMUM_VOLUMES": "proof",
    "Exported": "deliver",
    "Level": "passes",
    "Proof": "proof",
    "Source": "source",
    "Step": "passes",
    "Target": "passes",
    "export_model": "export",
    "load_source": "source",
    "optimize_model": "optimize",
    "pooled_of": "pooling",
    "prove": "proof",
    "to_onnx": "convert",
}

__all__ = [
    "LIMIT",
    "MINIMUM_VOLUMES",
    "Exported",
    "Level",
    "Proof",
    "Source",
    "Step",
    "Target",
    "export_model",
    "load_source",
    "optimize_model",
    "pooled_of",
    "prove",
    "to_onnx",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: what rewrites an ONNX file must not need Keras."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ct3d_edge.conversion' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ct3d_edge.conversion.{_HOMES[name]}"), name)
