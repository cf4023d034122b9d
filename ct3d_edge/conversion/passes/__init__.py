"""The export compiler: rewrites an ONNX graph into an equal one that is faster or smaller on a device.

One rule a file; `pipeline` says which of them run. Knows neither Keras nor ONNX Runtime.
"""

from ct3d_edge.conversion.passes.pipeline import FilteredAxes, Level, Optimised, Pass, Step, Target, optimize
from ct3d_edge.conversion.passes.rule import Refusal, Refused, Rule

__all__ = ["FilteredAxes", "Level", "Optimised", "Pass", "Refusal", "Refused", "Rule", "Step", "Target", "optimize"]
