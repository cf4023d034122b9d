"""``--profile`` of ``bench``: layers, ceilings and the bottleneck, measured and printed."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ct3d_edge.cli.bench_target import Target
from ct3d_edge.cli.tuned import tuned_options
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct3d_edge.latency import BenchRecord

COLUMNS = ("layer", "ms", "GFLOP", "of 3D", "GFLOP/s", "GB/s", "of the limit", "bound by")


def require_cpu(actual: str) -> None:
    """Refuse before anything is measured what could not be profiled.

    Raises
    ------
    UsageError
        If a GPU does the work.
    """
    if actual != "cpu":
        raise UsageError(
            f"--profile times operators on the CPU provider; {actual} does the work here, whose operators ONNX Runtime "
            "sees being started, not finished. Add --provider cpu, or use the vendor's profiler."
        )


def add_profile(record: "BenchRecord", target: Target, volume: "NDArray[np.float32]") -> "BenchRecord":
    """Profile a network input, print the table, and put it all into the record."""
    from ct3d_edge.benchmark import keep_what_was_taken, profile_scan

    options = tuned_options(target.tuned, "cpu", target.provider_option, target.device_id)
    threads = int(record.conditions["receipt"]["threads"])
    with keep_what_was_taken(lambda reason: replace(record, incomplete=reason)):
        found = profile_scan(target.file, volume, record.samples.counted, threads, options=options)
    told = found.to_dict()
    print_profile(told)
    return replace(record, conditions={**record.conditions, "profile": told, "roofline": found.roofline()})


def print_profile(told: dict[str, Any]) -> None:
    """One row a layer, what the ceilings are, and the verdict; from a record's ``profile``."""
    from ct3d_edge.cli.bench_print import line
    from ct3d_edge.cli.terminal import out
    from ct3d_edge.report import plain_table

    console, ceilings = out(), told["ceilings"]
    line(
        console,
        f"Ceilings of {ceilings['threads']} threads: {ceilings['gflop_per_s']:.0f} GFLOP/s in a matrix product, "
        f"{ceilings['gb_per_s']:.1f} GB/s in a copy, by NumPy.",
    )
    table = plain_table()
    for title in COLUMNS:
        table.add_column(title, justify="left" if title in COLUMNS[::7] else "right")
    for name, layer in told["layers"].items():
        table.add_row(name, *_cells(layer))
    console.print(table)
    line(console, "of 3D: GFLOP of the 3D convolution that it stands for. bound by: the largest part of its time.")
    parts = told["parts_ms"]
    whole = sum(parts.values()) or 1.0
    shares = ", ".join(f"{name} {ms:.1f} ms ({ms / whole:.0%})" for name, ms in parts.items())
    line(console, f"The whole scan: {shares}. Bottleneck: {told['verdict']}.")


def _cells(layer: dict[str, Any]) -> list[str]:
    return [
        f"{layer['ms']:.1f}",
        f"{layer['gflop']:.2f}",
        f"{layer['gflop_of_3d_convolution']:.2f}",
        f"{layer['gflop_per_s']:.0f}",
        f"{layer['gb_per_s']:.1f}",
        f"{layer['of_limit']:.0%}",
        str(layer["verdict"]),
    ]
