"""The tables of docs/training.md, from the scores that bench.presets kept.

python -m bench.presets_table [RECORD.json [REFERENCE]]

Gains are on the variant REFERENCE, ``tutorial`` if it is left out, with the seeds that both have.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ct3d_edge.evaluation.intervals import CONFIDENCE, MetricEstimate, bootstrap, proportion
from ct3d_edge.evaluation.metrics import auc, brier

RECORD = Path(__file__).parent / "results" / "presets.json"


def run_rows(record: dict[str, Any]) -> list[str]:
    """One row a run: AUC with its bootstrap interval over the test scans, accuracy with Wilson's, Brier score."""
    truth = np.array(record["truth"])
    lines = ["| variant | seed | AUC | accuracy at 0.5 | Brier score | epochs |", "|---|---|---|---|---|---|"]
    for run in record["runs"]:
        scores = np.array(run["scores"])
        area = bootstrap(auc, truth, scores)
        right = proportion(int(((scores >= 0.5) == truth).sum()), len(truth))
        epochs = len(run["history"].splitlines()) - 1
        lines.append(
            f"| {run['variant']} | {run['seed']} | {format_interval(area)} | {right.value:.3f} ({right.low:.3f} to "
            f"{right.high:.3f}) | {brier(truth, scores):.3f} | {epochs} |"
        )
    return lines


def variant_rows(record: dict[str, Any], reference: str) -> list[str]:
    """One row a variant: mean AUC over the seeds, and its difference from the reference's on the same seeds."""
    areas = auc_by_variant(record)
    on = "the tutorial" if reference == "tutorial" else reference
    lines = [f"| variant | mean AUC over seeds | gain on {on}, other seeds | gain, other test scans |"]
    lines.append("|---|---|---|---|")
    for variant, of_seed in areas.items():
        gains = ["", ""]
        if variant != reference:
            by_seed = [of_seed[seed] - areas[reference][seed] for seed in of_seed if seed in areas[reference]]
            gains = [
                format_interval(mean_estimate(by_seed), sign="+"),
                format_interval(gain_over_scans(record, variant, reference), sign="+"),
            ]
        lines.append(f"| {variant} | {format_interval(mean_estimate(list(of_seed.values())))} | {' | '.join(gains)} |")
    return lines


def gain_over_scans(record: dict[str, Any], variant: str, reference: str) -> MetricEstimate:
    """Mean gain over the seeds, with its interval over test scans drawn anew for all runs alike."""
    runs = {(run["variant"], run["seed"]): run["scores"] for run in record["runs"]}
    seeds = [seed for name, seed in runs if name == variant and (reference, seed) in runs]
    pairs = np.array([(runs[variant, seed], runs[reference, seed]) for seed in seeds])

    def gain(truth: NDArray[np.int64], rows: NDArray[np.float64]) -> float:
        drawn = pairs[:, :, rows.astype(int)]
        return float(np.mean([auc(truth, ours) - auc(truth, theirs) for ours, theirs in drawn]))

    truth = np.array(record["truth"])
    return bootstrap(gain, truth, np.arange(len(truth), dtype=float))


def auc_by_variant(record: dict[str, Any]) -> dict[str, dict[int, float]]:
    """AUC by variant and seed."""
    areas: dict[str, dict[int, float]] = {}
    for run in record["runs"]:
        area = auc(np.array(record["truth"]), np.array(run["scores"]))
        areas.setdefault(run["variant"], {})[run["seed"]] = area
    return areas


def mean_estimate(values: list[float]) -> MetricEstimate:
    """Mean with Student's 95 % interval: the spread is that of split, first weights and order, on one test set."""
    if len(values) < 2:
        return MetricEstimate(values[0], float("nan"), float("nan"))
    found = stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE)
    return MetricEstimate(float(np.mean(values)), float(found.low), float(found.high))


def format_interval(estimate: MetricEstimate, sign: str = "") -> str:
    """``value (low to high)``; no interval for a single value."""
    value, low, high = (f"{number:{sign}.3f}" for number in (estimate.value, estimate.low, estimate.high))
    return value if np.isnan(estimate.low) else f"{value} ({low} to {high})"


def main() -> None:
    """Print both tables as Markdown."""
    record = json.loads((Path(sys.argv[1]) if len(sys.argv) > 1 else RECORD).read_text())
    reference = sys.argv[2] if len(sys.argv) > 2 else "tutorial"
    print("\n".join([*variant_rows(record, reference), "", *run_rows(record)]))


if __name__ == "__main__":
    main()
