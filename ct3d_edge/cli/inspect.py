"""``ct3d-edge inspect``: show the metadata of a model file, a summary or all."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ct3d_edge.cli.options import (
    DeprecatedModelArgument,
    JsonOption,
    ModelOption,
    resolve_model_argument,
    resolve_model_path,
)
from ct3d_edge.formatting import format_bytes, list_names, plural

if TYPE_CHECKING:
    from ct3d_edge.modelfile.model_file import ModelFile

NAME_WIDTH = 20
HEX_DIGITS = 16
"""Of a hash; ``--all`` shows the whole."""

MAX_LISTED_OPERATORS = 5
"""Operator types that are named, the most frequent first."""


def summarize_model_file(file: "ModelFile", interface: dict[str, str], of_training: dict[str, str]) -> list[str]:
    """Rows of a name and its value in the file.

    Parameters
    ----------
    file
        A checked model file.
    interface
        Inputs and outputs in words.
    of_training
        The training scans' statistics in the contract, as text.
    """
    rows = {
        "file": f"{file.path} ({format_bytes(len(file.data))})",
        "sha256": f"{file.sha256[:HEX_DIGITS]}..., of the contract {file.contract.sha256[:HEX_DIGITS]}...",
        **interface,
        **_contract(file),
        **{name.replace("_", " "): text for name, text in of_training.items()},
        "graph": _graph(file),
        "precision": file.arithmetic,
        "golden test": _golden(file),
        **_provenance(file.provenance),
    }
    return [*(f"{name:<{NAME_WIDTH}}{text}" for name, text in rows.items()), "--all shows the rest."]


def _contract(file: "ModelFile") -> dict[str, str]:
    contract = file.contract
    low, high = contract.hu_window
    size = " x ".join(map(str, contract.shape))
    turned = "left as stored" if contract.orientation == "stored" else f"turned to {contract.orientation}"
    decision = f"; {contract.labels[1]} at {contract.threshold:.3g} or above" if len(contract.labels) == 2 else ""
    return {
        "scan": f"{turned}, HU {low:g} to {high:g}, resized to {size}",
        "classes": f"{', '.join(contract.labels)}{decision}; temperature {contract.temperature:.3g}",
    }


def _golden(file: "ModelFile") -> str:
    golden = file.golden
    known = f"{plural(len(golden.inputs), 'input')}, tolerance {golden.tolerance:g}"
    tensors = f"; {plural(len(golden.tensors), 'tensor')}, tolerance {golden.tensor_tolerance:g}"
    return f"{known}{tensors if golden.tensors else ''}{'' if golden.limitation is None else '; weak, see --all'}"


def _graph(file: "ModelFile") -> str:
    frequent = sorted(file.node_counts.items(), key=lambda item: -item[1])
    names = list_names([f"{name} {count}" for name, count in frequent], MAX_LISTED_OPERATORS)
    return f"opset {file.opset}, {plural(file.nodes, 'node')}: {names}"


def _provenance(provenance: dict[str, Any]) -> dict[str, str]:
    """The provenance of the file: JSON that any program may have written."""
    rows = {}
    optimize, passes = _nested_object(provenance, "optimize"), provenance.get("passes")
    if optimize:
        number = f", {plural(len(passes), 'pass', 'passes')}" if isinstance(passes, list) else ""
        rows["rewritten"] = f"{optimize.get('level')} for {optimize.get('target')}{number}"
    if parity := _nested_object(provenance, "proof"):
        weak = "; weak, see --all" if parity.get("weakness") else ""
        rows["parity check"] = (
            f"{_number(parity.get('volumes'))} volumes on {parity.get('provider')}: largest difference of probability "
            f"{_number(parity.get('probability_difference'))}, limit {_number(parity.get('limit'))}{weak}"
        )
    if source := _nested_object(provenance, "source"):
        rows["made from"] = str(source.get("file", "unknown"))
    if comparison := _nested_object(provenance, "comparison"):
        rows["comparison"] = _comparison(comparison)
    if tools := _nested_object(provenance, "tools"):
        rows["made with"] = ", ".join(f"{name} {version}" for name, version in tools.items())
    return rows


def _comparison(data: dict[str, Any]) -> str:
    from ct3d_edge.errors import ModelError
    from ct3d_edge.modelfile.comparison_evidence import ComparisonEvidence

    try:
        return ComparisonEvidence.from_dict(data, "The comparison").describe()
    except ModelError as error:
        return str(error)


def _nested_object(provenance: dict[str, Any], key: str) -> dict[str, Any]:
    value = provenance.get(key)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else json.dumps(value)


SEPARATE_SECTIONS = ("passes", "precision", "precision_choice")
"""Parts of the provenance that are shown in sections of their own."""


def inspect(
    argument: DeprecatedModelArgument = None,
    model: ModelOption = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Show everything: each pass, operator and figure of the proof.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Show what a model file expects and where it comes from.

    What it predicts, its golden test and the figures of its parity check are shown too; --all shows each pass.
    """
    from ct3d_edge.cli.terminal import print_lines, stdout_console
    from ct3d_edge.formatting import printable
    from ct3d_edge.modelfile.model_file import load_model_file

    file = load_model_file(resolve_model_path(resolve_model_argument(model, argument)), stored_voxels=True)
    facts = _model_facts(file)
    if json_:
        typer.echo(json.dumps(facts, indent=2))
        return
    if not all_:
        print_lines(summarize_model_file(file, _interface(file), _describe_training_stats(file)), indent=NAME_WIDTH)
        return
    facts["contract"] |= _describe_training_stats(file)
    console = stdout_console()
    for title, section in facts.items():
        console.print(f"[bold]{title}[/bold]")
        for line in _format_lines(section):
            console.print("  " + printable(line), markup=False, soft_wrap=True)


def _model_facts(file: "ModelFile") -> dict[str, dict[str, Any]]:
    golden = file.golden
    return {
        "file": {"path": str(file.path), "bytes": len(file.data), "sha256": file.sha256},
        "graph": {
            **_interface(file),
            "opset": file.opset,
            "nodes": file.nodes,
            "operators": file.node_counts,
        },
        "contract": {
            **json.loads(file.contract.to_json()),
            **_feature_statistics_summary(file),
            "sha256": file.contract.sha256,
        },
        "golden test": {
            "recipe": golden.recipe,
            "inputs": [list(blend) for blend in golden.inputs],
            "expected": [list(row) for row in golden.expected],
            "tolerance": golden.tolerance,
            "tensors": [sketch.name for sketch in golden.tensors],
            "tensor_tolerance": golden.tensor_tolerance,
            "power": "enough" if golden.limitation is None else f"weak: {golden.limitation}",
        },
        "precision": _precision(file.provenance),
        "provenance": {key: value for key, value in file.provenance.items() if key not in SEPARATE_SECTIONS},
        "passes": _passes(file.provenance.get("passes")),
    }


def _feature_statistics_summary(file: "ModelFile") -> dict[str, Any]:
    """A summary of the feature statistics, without their thousands of numbers."""
    known = file.contract.feature_statistics
    if known is None:
        return {}
    numbers = {name: getattr(known, name) for name in ("features", "threshold", "scans", "held_out")}
    return {"feature_statistics": {**numbers, "directions": len(known.directions)}}


def _describe_training_stats(file: "ModelFile") -> dict[str, str]:
    """The training scans' statistics in the contract, a line each."""
    from ct3d_edge.quality_control.reference_stats import describe_range, describe_statistics

    trained, statistics = file.contract.training_range, file.contract.feature_statistics
    return {
        "training_range": describe_range(trained) if trained else "not recorded",
        "feature_statistics": describe_statistics(statistics) if statistics else "not recorded",
    }


def _interface(file: "ModelFile") -> dict[str, str]:
    contract = file.contract
    if file.stored_voxels:
        return {
            "input": "stored voxels int16 (slices, rows, columns) of any size; slope, intercept float32",
            "output": f"{file.output_name} float32 ({len(contract.labels)})",
        }
    return {
        "input": f"{file.input_name} float32 (batch, {', '.join(map(str, contract.input_shape))})",
        "output": f"{file.output_name} float32 (batch, {contract.outputs})",
        "pooled features": "no" if file.pooled is None else f"{file.pooled}, for out_of_distribution",
        "Grad-CAM": "no, see export --with-gradcam-output" if file.features is None else "yes, for infer --gradcam-dir",
    }


def _precision(provenance: dict[str, Any]) -> dict[str, Any]:
    """What the file computes in, how many nodes or weights stay float32 and why, and how it was chosen."""
    precision = provenance.get("precision", {})
    fp32_tensors = {key: precision[key] for key in ("fp32_nodes", "fp32_weights") if key in precision}
    counted = {f"{key} ({len(names)})": names or "none" for key, names in fp32_tensors.items()}
    plain = {key: value for key, value in precision.items() if key not in fp32_tensors}
    return {"arithmetic": "fp32", **plain, **counted, **provenance.get("precision_choice", {})}


def _passes(steps: Any) -> dict[str, Any]:
    """Each pass with its node counts; what a pass left as it was, and why, below it."""
    if not isinstance(steps, list):
        return {}
    return {f"{number}. {step['name']}": _without_name(step) for number, step in enumerate(steps, 1)}


def _without_name(step: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "name"}


def _format_lines(section: dict[str, Any], indent: str = "") -> list[str]:
    """``key  value`` lines; nested objects indented below their key, several of a kind numbered."""
    lines: list[str] = []
    width = max((len(key) for key in section), default=0)
    for key, value in section.items():
        if parts := _nested_parts(value):
            lines += [f"{indent}{key}", *_format_lines(parts, indent + "  ")]
        else:
            lines.append(f"{indent}{key:<{width}}  {_format_value(value)}")
    return lines


def _nested_parts(value: Any) -> dict[str, Any]:
    """What a nested object holds, or a list of them; nothing of a plain value."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return {f"{number}.": item for number, item in enumerate(value, 1)}
    return value if isinstance(value, dict) else {}


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_format_value(item) for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
