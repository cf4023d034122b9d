"""What each rewrite brings, alone and on top of the others, drawn from the record of `python -m bench.compiler`.

    python -m bench.compiler_chart

Writes docs/waterfall.svg: median times of a scan with their 99 % intervals, rewrites alone above, added up below.
"""

import json
from pathlib import Path

from bench.compiler import SUBJECT, WATERFALL
from bench.save_record import RESULTS
from ct3d_edge.latency.statistics import Percentile, percentile

PICTURE = Path(__file__).parents[1] / "docs" / "waterfall.svg"
COLORS = {"as tf2onnx wrote it": "#888888", "one rewrite alone": "#4c78a8", "one more on top": "#f58518"}


def kind(name: str) -> str:
    """Which colour a variant has."""
    if name == SUBJECT:
        return "as tf2onnx wrote it"
    return "one rewrite alone" if name.endswith("alone") else "one more on top"


def draw(medians: dict[str, Percentile]) -> None:
    """One bar a variant, in the order in which they were made."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ct3d-edge"  # the same picture has the same bytes
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    values = [median.value for median in medians.values()]
    below = [median.value - (median.low or median.value) for median in medians.values()]
    above = [(median.high or median.value) - median.value for median in medians.values()]
    axes.barh(range(len(values)), values, xerr=(below, above), color=[COLORS[kind(name)] for name in medians])
    axes.set_yticks(range(len(values)), list(medians))
    axes.invert_yaxis()
    axes.set_xlabel("ms a scan, two threads")
    handles = [Patch(color=colour) for colour in COLORS.values()]
    figure.legend(handles, list(COLORS), loc="outside upper right", ncols=3, frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """Read the record, draw it."""
    samples = json.loads((RESULTS / "compiler.json").read_text())["samples_ms"]
    draw({name: percentile(samples[name], 50) for name in (SUBJECT, *WATERFALL)})
    print(PICTURE)


if __name__ == "__main__":
    main()
