"""Apply single rules to tiny graphs."""

from dataclasses import dataclass

import onnx
import onnx_ir as ir
from graphs import difference, operators

from ct3d_edge.conversion.passes.rule import RefusedNode, RewriteRule, apply_rules, cleanup
from ct3d_edge.conversion.passes.validate_graph import validate_graph


@dataclass(frozen=True, eq=False)
class Outcome:
    before: onnx.ModelProto
    after: onnx.ModelProto
    rewrites: int
    refusals: tuple[RefusedNode, ...]

    @property
    def operators(self) -> list[str]:
        return operators(self.after)

    @property
    def reason(self) -> str:
        """The only refusal's."""
        (refusal,) = self.refusals
        return refusal.reason

    def difference(self, batch: int = 2) -> float:
        """Largest one, relative to the largest output; both files must be valid."""
        for proto in (self.before, self.after):
            onnx.checker.check_model(proto, full_check=True)
        shape = [axis.dim_value for axis in self.before.graph.input[0].type.tensor_type.shape.dim[1:]]
        return difference(self.before, self.after, shape, batch)


def rewritten(proto: onnx.ModelProto, *rules: RewriteRule) -> Outcome:
    model = validate_graph(proto)
    rewrites, refusals = apply_rules(rules, model)
    return Outcome(proto, ir.to_proto(cleanup(model)), rewrites, refusals)
