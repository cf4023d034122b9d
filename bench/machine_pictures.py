"""Pictures of records of `bench.machine`: layers beside their limits, threads and batches, rates."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.pictures import OTHERS, OURS, import_pyplot

Row = tuple[int | None, int, float]
"""Threads, scans in a batch, scans a second."""

FLOORS = "#b9c9de"
LEAST = 0.01
"""Share of the longest layer below which a bar could not be seen."""

BAR_INCHES, MARGIN_INCHES = 0.3, 1.6


def draw_layers(told: Mapping[str, Any], path: Path) -> None:
    """One bar for the whole scan, then a bar a layer, with what it would take at the machine's ceilings inside."""
    longest = max(facts["ms"] for facts in told["layers"].values())
    layers = {name: facts for name, facts in told["layers"].items() if facts["ms"] >= LEAST * longest}
    heights = [1, max(2, len(layers))]
    with _figure(path, 2, (8, BAR_INCHES * sum(heights) + MARGIN_INCHES), heights) as (whole, each):
        left = 0.0
        for part, ms in told["parts_ms"].items():
            whole.barh(0, ms, left=left, label=part)
            left += ms
        whole.set_yticks([0], ["a scan"], fontsize=8)
        whole.legend(ncols=5, fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
        places = range(len(layers))
        each.barh(places, [facts["ms"] for facts in layers.values()], color=OTHERS, label="taken")
        floors = [min(1.0, facts["of_limit"]) * facts["ms"] for facts in layers.values()]
        each.barh(places, floors, color=FLOORS, height=0.4, label="at the ceilings")
        each.set_yticks(places, layers, fontsize=8)
        each.invert_yaxis()
        each.legend(fontsize=7, frameon=False)
        each.set_xlabel("ms")


def draw_sweep(rows: Sequence[Row], path: Path) -> None:
    """Scans a second over the size of a batch, a line for each number of threads."""
    with _figure(path, 1, (6, 3.2)) as (axes,):
        for threads in dict.fromkeys(row[0] for row in rows):
            points = [(batch, speed) for count, batch, speed in rows if count == threads]
            axes.plot(*zip(*points, strict=True), marker="o", label=f"threads: {threads or 'all'}")
        axes.set_xscale("log", base=2)
        batches = sorted({row[1] for row in rows})
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("scans in a batch")
        axes.set_ylabel("scans a second")
        axes.legend(fontsize=8, frameon=False)


def draw_rates(points: Sequence[tuple[float, float, float]], facts: Mapping[str, Any], path: Path) -> None:
    """Median and tail of the latency over the rate of arrival, with the bound and the capacity."""
    with _figure(path, 1, (6, 3.2)) as (axes,):
        across, middle, tail = zip(*points, strict=True)
        axes.plot(across, middle, marker="o", color=OTHERS, label="p50")
        axes.plot(across, tail, marker="o", color=OURS, label=facts["tail"])
        axes.axhline(facts["bound_ms"], color="grey", linestyle="--", label="bound")
        axes.axvline(facts["capacity_per_s"], color="grey", linestyle=":", label="one after the other")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("scans a second that arrive")
        axes.set_ylabel("ms from intended arrival")
        axes.legend(fontsize=8, frameon=False)


@contextmanager
def _figure(
    path: Path, panels: int, size: tuple[float, float], heights: Sequence[float] | None = None
) -> Iterator[Sequence[Any]]:
    """Axes below each other; written to the path in the end."""
    plt = import_pyplot()
    figure, grid = plt.subplots(panels, figsize=size, height_ratios=heights, layout="constrained", squeeze=False)
    for axes in grid[:, 0]:
        axes.spines[["top", "right"]].set_visible(False)
    yield grid[:, 0]
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
