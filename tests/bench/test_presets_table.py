"""Tables of the comparison of training variants."""

from typing import Any

import numpy as np
import pytest

from bench.presets_table import variant_rows
from ct3d_edge.evaluation.metrics import auc

TRUTH = [0, 1] * 20


def run_of(variant: str, seed: int, noise: float) -> dict[str, Any]:
    drawn = np.random.default_rng([seed, int(100 * noise)]).normal(size=len(TRUTH))
    return {"variant": variant, "seed": seed, "scores": list(TRUTH + noise * drawn)}


@pytest.fixture
def record() -> dict[str, Any]:
    """A reference with two seeds, and a variant with one more."""
    pairs = [("first", 0, 0.3), ("first", 1, 0.4), *(("second", seed, 0.9) for seed in range(3))]
    return {"truth": TRUTH, "runs": [run_of(*pair) for pair in pairs]}


@pytest.mark.slow
def test_gains_are_on_the_reference_with_the_seeds_that_both_have(record: dict[str, Any]) -> None:
    areas = {(run["variant"], run["seed"]): auc(np.array(TRUTH), np.array(run["scores"])) for run in record["runs"]}
    gain = np.mean([areas["second", seed] - areas["first", seed] for seed in (0, 1)])
    head, _, first, second = variant_rows(record, "first")
    assert "gain on first" in head
    assert first.endswith("|  |  |")
    _, _, mean, by_seed, by_scans, _ = (cell.strip() for cell in second.split("|"))
    assert mean.startswith(f"{np.mean([areas['second', seed] for seed in range(3)]):.3f} ")
    assert by_seed.startswith(f"{gain:+.3f} ")
    assert by_scans.startswith(f"{gain:+.3f} ")
