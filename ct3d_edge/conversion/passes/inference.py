"""What is done to a graph between rewrites: shapes filled in, leftovers removed."""

import onnx_ir as ir
from onnx_ir.passes import common


def infer_shapes(model: ir.Model) -> ir.Model:
    """Fill in the shapes that follow from the inputs; sizes that do not stay unknown."""
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    return model


def tidy(model: ir.Model) -> ir.Model:
    """Remove what nothing uses, store equal constants once, and put nodes in order."""
    ir.passes.Sequential(
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.DeduplicateInitializersPass(),
        common.TopologicalSortPass(),
    )(model)
    return infer_shapes(model)
