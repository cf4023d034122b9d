"""Options of the commands that rewrite a graph, and what they print of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import format_bytes, plural
from ct3d_edge.system.atomic_write import require_writable

if TYPE_CHECKING:
    from ct3d_edge.conversion.write_model import CompileResult

ModelFileOption = Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")]
OptimizeLevelOption = Annotated[
    Literal["none", "exact", "fast", "small"],
    typer.Option(
        "--optimize",
        "-O",
        help="exact: folds and shortens; fast: and 3D operators in the form that the device runs fastest; small: and "
        "a few planes at a time.",
    ),
]
TargetOption = Annotated[
    Literal["cpu", "openvino", "cuda", "tensorrt", "no-conv3d"],
    typer.Option(
        help="Device class; openvino, cuda and tensorrt keep 3D operators, no-conv3d leaves none in the file."
    ),
]
TensorMemoryOption = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="For small: what intermediate tensors may take, like 60MB."),
]
PrecisionOption = Annotated[
    Literal["fp32", "fp16", "int8", "auto"],
    typer.Option(
        "--precision", help="What the file computes in; auto: the fastest for the target whose parity check passes."
    ),
]
WeightDtypeOption = Annotated[
    Literal["fp32", "fp16"],
    typer.Option(
        "--weight-dtype", help="What an fp32 file stores its weights in; fp16 halves the file, arithmetic stays fp32."
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at a pass that fails instead of leaving it out.")]
EmbedPreprocessingOption = Annotated[
    bool,
    typer.Option(
        "--embed-preprocessing",
        help="Put the preprocessing into the file, for other programs: stored voxels in, probabilities out.",
    ),
]
GradcamOutputOption = Annotated[
    bool,
    typer.Option(
        "--with-gradcam-output",
        help="Experimental: give the file the output from which `infer --gradcam-dir` draws its maps.",
    ),
]
ParityDataOption = Annotated[
    Path | None,
    typer.Option("--parity-data", help="Scans to check the file on; phantoms fill up to eight, or serve alone."),
]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        "--atol",
        min=0,
        max=0.1,
        show_default="fp32 1e-5, fp16 5e-3, int8 2e-2",
        help="Largest difference of a probability that the parity check allows.",
    ),
]
CalibrationDataOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration-data",
        help="Scans to calibrate fp16 and int8 on, none of them in --parity-data; phantoms if left out.",
    ),
]


def check_compile_options(
    out: Path, precision: str, calibrate: Path | None, explain: bool, embed_preprocessing: bool
) -> None:
    """Stop at options that contradict each other, and at a file that could not be written in the end."""
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"The file to write must end in .onnx, found {out}.")
    require_writable(out)
    if explain and embed_preprocessing:  # a map is drawn from a network input, which such a file never shows
        raise UsageError("--with-gradcam-output and --embed-preprocessing exclude each other: export two files.")
    if calibrate and precision == "fp32":
        raise UsageError("--calibration-data is for --precision fp16, int8 and auto: fp32 needs no calibration.")


def print_compile_result(exported: "CompileResult") -> None:
    """Passes, parity check and file on standard output."""
    from ct3d_edge.cli.logs import to_option_names
    from ct3d_edge.cli.terminal import print_lines

    model = exported.model
    print_lines(describe_passes(model.provenance.get("passes", [])))
    print_lines(map(to_option_names, describe_precision(model.provenance)))
    for parity in exported.parity_reports:
        print_lines([f"parity check: {parity.describe()}"])
        if parity.tensors:
            print_lines([f"tensors: {parity.tensors.describe()}"])
        if parity.weakness:
            print_lines([to_option_names(f"warning: the parity check is weak: {parity.weakness}")])
    for name, reason in model.provenance.get("not_for", {}).items():
        print_lines([f"not for {name}: it {reason}"])
    print_lines(describe_missing_target(exported))
    if model.golden.limitation:
        print_lines([f"warning: the golden test is weak: {model.golden.limitation}"])
    if exported.fused_io_parity:
        print_lines([f"preprocessing inside: {exported.fused_io_parity.describe()}"])
    typer.echo(f"wrote {model.path} ({format_bytes(len(model.data))}, {plural(model.nodes, 'node')})")


def describe_missing_target(exported: "CompileResult") -> list[str]:
    """One line if the provider that the file is made for does not work here, so that no check ran on it."""
    from ct3d_edge.providers.names import PROVIDERS

    target = exported.model.provenance.get("optimize", {}).get("target")
    if target not in PROVIDERS or target in {parity.provider for parity in exported.parity_reports}:
        return []
    return [
        f"not checked on {target}, which does not work on this machine: run ct3d-edge verify --model "
        f"{exported.model.path.name} --provider {target} on the device"
    ]


def describe_passes(steps: list[dict[str, Any]]) -> list[str]:
    """One line a pass of a provenance: nodes before and after, rewrites, and whether it failed."""
    width = max((len(str(step["name"])) for step in steps), default=0)
    return [
        f"pass {step['name']:<{width}}  {step['before']:>3} -> {step['after']:>3} nodes, "
        + plural(step["rewrites"], "rewrite")
        + (f"; left out: {step['failure']}" if step.get("failure") else "")
        for step in steps
    ]


def describe_precision(provenance: dict[str, Any]) -> list[str]:
    """What a file computes in, what stays float32 and why, and why ``auto`` took nothing else."""
    precision = provenance.get("precision", {})
    choice = provenance.get("precision_choice", {})
    lines = [f"precision {name} was not taken: {reason}" for name, reason in choice.get("not_taken", {}).items()]
    if "chosen" in choice:
        speed = choice.get("times_the_speed_of_fp32")
        lines.append(
            f"precision {choice['chosen']} was chosen" + (f": {speed} times the speed of fp32" if speed else "")
        )
    if not precision:
        return lines
    weights = f", weights in {precision['weights']}" if "weights" in precision else ""
    fp32_tensors = {**precision.get("fp32_nodes", {}), **precision.get("fp32_weights", {})}
    lines.append(f"precision {precision['arithmetic']}{weights}; {len(fp32_tensors)} kept in fp32")
    return lines + [f"  {name}: {reason}" for name, reason in fp32_tensors.items()]
