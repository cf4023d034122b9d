"""Apply single rules to tiny graphs."""

from dataclasses import dataclass

import onnx
import onnx_ir as ir
from graphs import difference, operators

from ct3d_edge.conversion.passes.rule import Refusal, Rule, sweep, tidy
from ct3d_edge.conversion.passes.validate_graph import admit


@dataclass(frozen=True, eq=False)
class Outcome:
    before: onnx.ModelProto
    after: onnx.ModelProto
    rewrites: int
    refusals: tuple[Refusal, ...]

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


def rewritten(proto: onnx.ModelProto, *rules: Rule) -> Outcome:
    model = admit(proto)
    rewrites, refusals = sweep(rules, model)
    return Outcome(proto, ir.to_proto(tidy(model)), rewrites, refusals)
