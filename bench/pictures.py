"""Pictures of a contest: how long each contestant takes, and how much memory. The same record gives the same bytes."""

from pathlib import Path
from typing import Any

from bench.fixture import KINDS
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import percentile

OURS, OTHERS = "#f58518", "#4c78a8"
BAR_INCHES, MARGIN_INCHES = 0.28, 0.9

Bars = dict[str, float]
"""Contestant's key to the length of its bar."""


def draw_medians(record: BenchRecord, folder: Path, name: str) -> dict[str, Path]:
    """Write ``NAME_speed.svg`` and, where memory is known, ``NAME_memory.svg``; what each shows, and its file."""
    speed = {key: percentile(taken, 50).value for key, taken in record.samples.counted.items()}
    peaks = {key: record.resources.get(f"{key}, peak resident, bytes") for key in speed}
    memory = {key: peak / 1e6 for key, peak in peaks.items() if peak is not None}
    wanted = {
        "How long: median, ms": (speed, folder / f"{name}_speed.svg"),
        "How much memory: peak of the process, MB": (memory, folder / f"{name}_memory.svg"),
    }
    for title, (bars, path) in wanted.items():
        if bars:
            _draw(record, bars, title, path)
    return {title: path for title, (bars, path) in wanted.items() if bars}


def import_pyplot() -> Any:
    """`matplotlib.pyplot` that writes SVG, the same picture in the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ct3d-edge"
    import matplotlib.pyplot as plt

    return plt


def _draw(record: BenchRecord, bars: Bars, title: str, path: Path) -> None:
    """One panel a question, a bar a contestant, the shortest on top."""
    plt = import_pyplot()
    facts = record.conditions["contestants"]
    panels = {kind: [key for key in sorted(bars, key=bars.__getitem__) if facts[key]["kind"] == kind] for kind in KINDS}
    panels = {kind: keys for kind, keys in panels.items() if keys}
    heights = [BAR_INCHES * len(keys) + MARGIN_INCHES for keys in panels.values()]
    figure, grid = plt.subplots(
        len(panels), figsize=(8, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    for axes, (kind, keys) in zip(grid[:, 0], panels.items(), strict=True):
        _panel(axes, [facts[key] for key in keys], [bars[key] for key in keys])
        axes.set_title(kind, loc="left", fontsize=9)
    grid[-1, 0].set_xlabel(title)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _panel(axes: Any, contestants: list[dict[str, Any]], lengths: list[float]) -> None:
    colours = [OURS if contestant["ours"] else OTHERS for contestant in contestants]
    bars = axes.barh(range(len(lengths)), lengths, color=colours)
    axes.bar_label(bars, fmt="%.3g" if max(lengths) < 100 else "%.0f", padding=3, fontsize=8)
    axes.set_yticks(range(len(lengths)), [contestant["name"] for contestant in contestants], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
