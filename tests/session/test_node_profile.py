from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import MakeModel

from ct3d_edge.errors import ProviderError
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.session.node_profile import parse_events, profile_nodes


def event(name: str, ms: float, index: int = 0) -> dict[str, Any]:
    facts = {
        "op_name": "Conv",
        "node_index": str(index),
        "activation_size": "30",
        "parameter_size": "10",
        "output_size": "20",
        "input_type_shape": [{"float": [1, 2]}, {"int64": [3]}],
        "output_type_shape": [{"float": [4]}],
    }
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": ms * 1000, "args": facts}


def run(ms: float) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "dur": ms * 1000}


def test_events_are_counted_by_run_and_by_node_and_the_first_runs_are_not() -> None:
    warm = [event("a", 100), run(100), event("a", 100), run(100)]
    events = [*warm, event("a", 1), event("a", 2, index=1), run(4), event("a", 3), event("a", 5, index=1), run(9)]
    found = parse_events(events)
    assert [node.times for node in found.nodes] == [(1.0, 3.0), (2.0, 5.0)]
    assert found.runs == (4.0, 9.0)
    node = found.nodes[0]
    assert (node.name, node.operator, node.inputs, node.outputs) == ("a", "Conv", ((1, 2), (3,)), ((4,),))
    assert (node.input_bytes, node.output_bytes) == (40, 20)


def test_a_profile_without_operators_is_an_error() -> None:
    with pytest.raises(ProviderError, match="no times of operators"):
        parse_events([run(1), run(1), run(1)])


def test_every_operator_of_a_model_is_timed_in_every_run(make_model: MakeModel, tmp_path: Path) -> None:
    model = load_model_file(Path(make_model()))
    volume = np.zeros(model.contract.shape, np.float32)
    before = set(Path.cwd().iterdir())
    found = profile_nodes(model, volume, 3, threads=1)
    assert {node.operator for node in found.nodes} >= {"Conv", "Sigmoid"}
    assert all(len(node.times) == 3 for node in found.nodes)
    assert all(sum(node.times[n] for node in found.nodes) <= found.runs[n] for n in range(3))
    assert set(Path.cwd().iterdir()) == before
