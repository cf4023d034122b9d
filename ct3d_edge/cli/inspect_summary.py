"""What ``inspect`` shows of a model file without ``--all``: one screen."""

import json
from typing import TYPE_CHECKING, Any

from ct3d_edge.formatting import format_bytes, list_names, plural

if TYPE_CHECKING:
    from ct3d_edge.runtime import ModelFile

NAME_WIDTH = 20
HEX_DIGITS = 16
"""Of a hash; ``--all`` shows the whole."""

OPERATORS = 5
"""Operator types that are named, the most frequent first."""


def summarize(file: "ModelFile", interface: dict[str, str], of_training: dict[str, str]) -> list[str]:
    """Lines of a name and what the file says of it.

    Parameters
    ----------
    file
        A checked model file.
    interface
        Inputs and outputs in words.
    of_training
        What the contract says of the training scans, in words.
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
    decision = f"; {contract.labels[1]} from {contract.threshold:.3g} on" if len(contract.labels) == 2 else ""
    return {
        "scan": f"{turned}, HU {low:g} to {high:g}, resized to {size}",
        "classes": f"{', '.join(contract.labels)}{decision}; temperature {contract.temperature:.3g}",
    }


def _golden(file: "ModelFile") -> str:
    golden = file.golden
    known = f"{plural(len(golden.inputs), 'input')}, tolerance {golden.tolerance:g}"
    tensors = f"; {plural(len(golden.tensors), 'tensor')}, tolerance {golden.tensor_tolerance:g}"
    return f"{known}{tensors if golden.tensors else ''}{'' if golden.remark is None else '; weak, see --all'}"


def _graph(file: "ModelFile") -> str:
    frequent = sorted(file.node_counts.items(), key=lambda item: -item[1])
    names = list_names([f"{name} {count}" for name, count in frequent], OPERATORS)
    return f"opset {file.opset}, {plural(file.nodes, 'node')}: {names}"


def _provenance(provenance: dict[str, Any]) -> dict[str, str]:
    """Where the file comes from, as far as it says: JSON that any program may have written."""
    rows = {}
    optimize, passes = _object(provenance, "optimize"), provenance.get("passes")
    if optimize:
        number = f", {plural(len(passes), 'pass', 'passes')}" if isinstance(passes, list) else ""
        rows["rewritten"] = f"{optimize.get('level')} for {optimize.get('target')}{number}"
    if proof := _object(provenance, "proof"):
        weak = "; weak, see --all" if proof.get("weakness") else ""
        rows["proof"] = (
            f"{_number(proof.get('volumes'))} volumes on {proof.get('provider')}: largest difference of probability "
            f"{_number(proof.get('probability_difference'))}, limit {_number(proof.get('limit'))}{weak}"
        )
    if source := _object(provenance, "source"):
        rows["made from"] = str(source.get("file", "unknown"))
    if tools := _object(provenance, "tools"):
        rows["made with"] = ", ".join(f"{name} {version}" for name, version in tools.items())
    return rows


def _object(provenance: dict[str, Any], key: str) -> dict[str, Any]:
    value = provenance.get(key)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else json.dumps(value)
