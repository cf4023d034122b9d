"""``ct3d-edge export``: a Keras model becomes a verified ONNX file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ct3d_edge.cli.compile_options import (
    CalibrationDataOption,
    EmbedPreprocessingOption,
    GradcamOutputOption,
    ModelFileOption,
    OptimizeLevelOption,
    ParityDataOption,
    PrecisionOption,
    StrictOption,
    TargetOption,
    TensorMemoryOption,
    ToleranceOption,
    WeightDtypeOption,
    check_compile_options,
    print_compile_result,
)
from ct3d_edge.cli.options import (
    DeprecatedModelArgument,
    LabelsOption,
    OrientationOption,
    parse_labels,
    resolve_required_model,
)
from ct3d_edge.extras import OPTIMIZE_MODULES, require_extra
from ct3d_edge.formatting import parse_size
from ct3d_edge.keras_backend import KERAS_MODULES, REQUIRED_MODULES


def export(
    argument: DeprecatedModelArgument = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="A folder that `train` wrote, or a .keras file.  [required]"),
    ] = None,
    *,
    out: ModelFileOption,
    labels: LabelsOption = None,
    orientation: OrientationOption = None,
    size: Annotated[
        tuple[int, int, int] | None,
        typer.Option("--shape", metavar="W H D", help="Input size, for a network that leaves it open."),
    ] = None,
    optimize: OptimizeLevelOption = "fast",
    target: TargetOption = "cpu",
    max_memory: TensorMemoryOption = None,
    strict: StrictOption = False,
    embed_preprocessing: EmbedPreprocessingOption = False,
    explain: GradcamOutputOption = False,
    precision: PrecisionOption = "fp32",
    weights: WeightDtypeOption = "fp32",
    calibrate: CalibrationDataOption = None,
    parity: ParityDataOption = None,
    limit: ToleranceOption = None,
    activation: Annotated[
        Literal["identity", "sigmoid", "softmax"] | None,
        typer.Option(help="What the output still lacks to be probabilities; read off the network if left out."),
    ] = None,
    converter: Annotated[
        Literal["tf2onnx", "direct"],
        typer.Option(help="What makes the ONNX graph; direct: from the layers themselves, without tf2onnx."),
    ] = "tf2onnx",
) -> None:
    """Convert a Keras model to an equivalent ONNX file.

    The file describes itself, is made fast, and is verified before it is written.
    A parity check that fails leaves no file and ends with exit code 4.
    """
    source = resolve_required_model(model, argument)
    names = parse_labels(labels)
    check_compile_options(out, precision, calibrate, explain, embed_preprocessing)
    budget = parse_size(max_memory)
    modules = KERAS_MODULES if converter == "direct" else REQUIRED_MODULES
    require_extra("train", (*modules, *OPTIMIZE_MODULES))  # brings the extra `optimize`
    from ct3d_edge import api
    from ct3d_edge.conversion.graph_variant import CompileOptions

    options = CompileOptions(optimize, target, budget, strict, explain, precision, weights)
    result = api.export(
        source,
        out,
        options,
        labels=names,
        orientation=orientation,
        shape=size,
        activation=activation,
        parity_data=parity,
        calibration_data=calibrate,
        atol=limit,
        embed_preprocessing=embed_preprocessing,
        converter=converter,
    )
    print_compile_result(result)
