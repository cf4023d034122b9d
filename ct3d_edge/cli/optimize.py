"""``ct3d-edge optimize``: an ONNX file becomes a faster one that is verified to predict the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from ct3d_edge.cli.options import DeprecatedModelArgument, resolve_required_model
from ct3d_edge.errors import ContractError
from ct3d_edge.extras import OPTIMIZE_MODULES, require_extra
from ct3d_edge.formatting import parse_size

if TYPE_CHECKING:
    from ct3d_edge.contract import Contract


def optimize(
    argument: DeprecatedModelArgument = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="An ONNX file, from export or elsewhere.  [required]"),
    ] = None,
    *,
    out: ModelFileOption,
    contract: Annotated[
        Path | None,
        typer.Option(help="Contract (JSON) of a file that brings none, or in place of its own."),
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
) -> None:
    """Rewrite an ONNX file so that it runs faster.

    Its graph is rewritten, and it is verified that both predict the same.

    Contract and golden test are carried over; a golden test from before gets new inputs. A parity check that does not
    hold leaves no file and ends with exit code 4. Keras is not needed.
    """
    path = resolve_required_model(model, argument)
    check_compile_options(out, precision, calibrate, explain, embed_preprocessing)
    budget = parse_size(max_memory)
    require_extra("optimize", OPTIMIZE_MODULES)
    from ct3d_edge import api
    from ct3d_edge.conversion.graph_variant import CompileOptions

    options = CompileOptions(optimize, target, budget, strict, explain, precision, weights)
    result = api.optimize(
        path,
        out,
        options,
        contract=_read_contract(contract) if contract else None,
        parity_data=parity,
        calibration_data=calibrate,
        atol=limit,
        embed_preprocessing=embed_preprocessing,
    )
    print_compile_result(result)


def _read_contract(path: Path) -> "Contract":
    from ct3d_edge.contract import Contract

    try:
        return Contract.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"The contract {path} cannot be read: {error}.") from error
