"""``ct3d-edge export``: a Keras model becomes a proven ONNX file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ct3d_edge.cli.compile_options import (
    BudgetOption,
    CalibrationDataOption,
    EmbedOption,
    ExplainOption,
    LevelOption,
    ParityDataOption,
    PrecisionOption,
    StrictOption,
    TargetOption,
    ToleranceOption,
    WeightsOption,
    check_compile_options,
    report_compiled,
)
from ct3d_edge.cli.options import LabelsOption, ModelArgument, OrientationOption, check_labels, required_model
from ct3d_edge.conversion.parity_data import (
    PhantomScans,
    calibration_volumes,
    parity_volumes,
    working_providers,
)
from ct3d_edge.extras import OPTIMIZE_MODULES, require_extra
from ct3d_edge.formatting import parse_size
from ct3d_edge.keras_backend import import_keras


def export(
    argument: ModelArgument = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="A folder that `train` wrote, or a .keras file.  [required]"),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    labels: LabelsOption = None,
    orientation: OrientationOption = None,
    size: Annotated[
        tuple[int, int, int] | None,
        typer.Option("--shape", metavar="W H D", help="Input size, for a network that leaves it open."),
    ] = None,
    optimize: LevelOption = "fast",
    target: TargetOption = "cpu",
    max_memory: BudgetOption = None,
    strict: StrictOption = False,
    embed_preprocessing: EmbedOption = False,
    explain: ExplainOption = False,
    precision: PrecisionOption = "fp32",
    weights: WeightsOption = "fp32",
    calibrate: CalibrationDataOption = None,
    parity: ParityDataOption = None,
    limit: ToleranceOption = None,
    activation: Annotated[
        Literal["identity", "sigmoid", "softmax"] | None,
        typer.Option(help="What the output still lacks to be probabilities; read off the network if left out."),
    ] = None,
) -> None:
    """Convert a Keras model to an ONNX file that answers alike.

    The file describes itself, is made fast, and is proven before it is written.
    A proof that does not hold leaves no file and ends with exit code 4.
    """
    source = required_model(model, argument)
    names = check_labels(labels)
    check_compile_options(out, precision, calibrate, explain, embed_preprocessing)
    budget = parse_size(max_memory)
    import_keras()
    require_extra("optimize", OPTIMIZE_MODULES)
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.conversion.compile_options import CompileOptions
    from ct3d_edge.conversion.export import export_model
    from ct3d_edge.conversion.keras_loader import load_keras_source

    plan = CompileOptions(optimize, target, budget, strict, explain, precision, weights)
    loaded = load_keras_source(source, labels=names, orientation=orientation, size=size, activation=activation)
    for remark in loaded.remarks:
        log(remark)
    material, volumes = parity_volumes(parity, loaded.contract)
    report_compiled(
        export_model(
            loaded,
            out,
            volumes,
            material=material,
            limit=limit,
            truth=volumes.truth,
            plan=plan,
            calibration=None if precision == "fp32" else calibration_volumes(calibrate, parity, loaded.contract),
            providers=working_providers(),
            embed_on=PhantomScans(loaded.contract) if embed_preprocessing else None,
            on_stage=lambda stage: log(f"{stage} ..."),
        )
    )
