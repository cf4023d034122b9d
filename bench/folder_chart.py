"""How the stages of a folder overlap, drawn from the record that `python -m bench.folder` kept.

    python -m bench.folder_chart

Writes docs/overlap.svg: a row a thread, a bar a stage of one scan.
"""

import json
from pathlib import Path
from typing import Any

from bench.save_record import RESULTS

PICTURE = Path(__file__).parents[1] / "docs" / "overlap.svg"
COLORS = {"read and preprocess": "#4c78a8", "infer": "#f58518"}
BAR = 0.8


def draw(plans: dict[str, list[dict[str, Any]]]) -> None:
    """Plans below each other, on one axis of time."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ct3d-edge"  # the same picture has the same bytes
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    rows = {name: 1 + max(one["thread"] for one in stages) for name, stages in plans.items()}
    figure, all_axes = plt.subplots(
        len(plans), sharex=True, figsize=(9, 4), height_ratios=list(rows.values()), layout="constrained"
    )
    for axes, (name, stages) in zip(all_axes, plans.items(), strict=True):
        for stage, colour in COLORS.items():
            for thread in range(rows[name]):
                axes.broken_barh(
                    spans(stages, stage, thread), (thread - BAR / 2, BAR), color=colour, ec="white", lw=0.5
                )
        axes.set_yticks(range(rows[name]), [f"thread {thread + 1}" for thread in range(rows[name])])
        axes.set_title(name, loc="left", fontsize=9)
        axes.invert_yaxis()
    all_axes[-1].set_xlabel("seconds")
    handles = [Patch(color=colour) for colour in COLORS.values()]
    figure.legend(handles, list(COLORS), loc="outside upper right", ncols=2, frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None})


def spans(stages: list[dict[str, Any]], stage: str, thread: int) -> list[tuple[float, float]]:
    """Begin and duration of a thread's bars of one stage."""
    mine = (one for one in stages if one["stage"] == stage and one["thread"] == thread)
    return [(one["begin_s"], one["end_s"] - one["begin_s"]) for one in mine]


def main() -> None:
    """Read the record, draw it."""
    record = json.loads((RESULTS / "folder.json").read_text())
    draw(record["conditions"]["stages_of_eight_scans"])
    print(PICTURE)


if __name__ == "__main__":
    main()
