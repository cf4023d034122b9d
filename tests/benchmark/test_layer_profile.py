import os
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel

from ct3d_edge.benchmark.layer_profile import BETWEEN_OPERATORS, LayerProfile, ScanProfile, profile_layer, profile_scan
from ct3d_edge.benchmark.roofline import LayerNodes, PeakPerformance, measure_peak_performance
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.session.node_profile import NodeTimes

CEILINGS = PeakPerformance(gflops=100.0, gb_per_s=10.0, threads=2)


def layer(ms: float, compute: float = 0.0, memory: float = 0.0) -> LayerProfile:
    return LayerProfile("layer", 1, ms, 1.0, 1.0, 1.0, compute, memory)


@pytest.mark.parametrize(
    ("found", "parts", "bottleneck"),
    [
        (layer(10, 6, 1), {"compute": 6, "memory": 1, "overhead": 3}, "compute"),
        (layer(10, 1, 7), {"compute": 1, "memory": 7, "overhead": 2}, "memory"),
        (layer(10, 1, 2), {"compute": 1, "memory": 2, "overhead": 7}, "overhead"),
        (layer(5, 6, 4), {"compute": 3, "memory": 2, "overhead": 0}, "compute"),
        (layer(5), {"compute": 0, "memory": 0, "overhead": 5}, "overhead"),
    ],
)
def test_a_layers_time_is_divided_without_a_rest(found: LayerProfile, parts: dict[str, float], bottleneck: str) -> None:
    assert found.parts == pytest.approx(parts)
    assert sum(found.parts.values()) == pytest.approx(found.ms)
    assert found.bottleneck == bottleneck


def test_faster_than_memory_is_said_and_not_hidden() -> None:
    assert layer(5, 6, 4).roofline_fraction == 2.0


@pytest.mark.parametrize(("read", "prepare", "bottleneck"), [(99, 1, "reading"), (1, 99, "preprocessing")])
def test_the_whole_scans_bottleneck_may_lie_before_the_network(read: float, prepare: float, bottleneck: str) -> None:
    found = ScanProfile((layer(10, 6, 1),), CEILINGS, read, prepare, record_ms=5)
    assert found.bottleneck == bottleneck
    assert sum(found.parts.values()) == pytest.approx(115)


def test_each_node_is_bound_by_what_takes_longer() -> None:
    arithmetic = NodeTimes("a", "MatMul", ((1000, 1000), (1000, 1000)), ((1000, 1000),), 8_000_000, 4_000_000, (30.0,))
    moving = NodeTimes("b", "MaxPool", ((1,),), ((1,),), 60_000_000, 40_000_000, (20.0,))
    found = profile_layer(LayerNodes("both", (arithmetic, moving)), CEILINGS)
    assert found.min_compute_ms == pytest.approx(20.0)  # 2 GFLOP at 100 GFLOP/s
    assert found.min_memory_ms == pytest.approx(10.0)  # 100 MB at 10 GB/s
    assert found.ms == 50.0


def test_the_higher_of_two_looks_at_a_ceiling_is_the_ceiling() -> None:
    assert CEILINGS.elementwise_max(PeakPerformance(90, 20, 2)) == PeakPerformance(100, 20, 2)


def test_ceilings_are_measured_and_leave_the_environment_alone() -> None:
    before = dict(os.environ)
    found = measure_peak_performance(1, side=64, copied=1 << 16)
    assert found.gflops > 0
    assert found.gb_per_s > 0
    assert dict(os.environ) == before


@pytest.mark.slow
def test_a_small_model_is_profiled_to_the_last_millisecond(make_model: MakeModel) -> None:
    model = load_model_file(Path(make_model()))
    volume = np.random.default_rng(0).random(model.contract.shape, np.float32)
    stages = {"read": [3.0], "preprocess": [2.0], "infer": [50.0], "record": [1.0]}
    found = profile_scan(model, volume, stages, 1, runs=3)
    assert [entry.name for entry in found.layers][:2] == ["conv", "head"]
    convolution = found.layers[0]
    assert convolution.gflop == pytest.approx(2 * 2 * 27 * 14 * 10 * 6 / 1e9)
    assert sum(found.parts.values()) == pytest.approx(56.0, rel=0.05)
    profile = found.to_dict()
    assert profile["parts_ms"]["reading"] == 3.0
    assert set(profile["layers"]) >= {"conv", "head", BETWEEN_OPERATORS}
    assert set(found.roofline()["points"]) <= {"conv", "head"}
