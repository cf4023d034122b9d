"""What a run is, on record: only runs with equal settings are the same run, which one may go on with."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ct3d_edge.cohort import Split, to_json
from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.training.presets import Preset


def settings_of(
    preset: Preset,
    seed: int,
    contract: Contract,
    split: Split,
    initial: Path | None,
    precision: str,
    devices: int,
) -> dict[str, Any]:
    """Everything that decides how a run goes, as plain data for a record."""
    return {
        **asdict(preset),
        "seed": seed,
        "precision": precision,
        "devices": devices,
        "initial_sha256": None if initial is None else _sha256(initial),
        "contract_sha256": contract.sha256,
        "split_sha256": hashlib.sha256(to_json(split).encode()).hexdigest(),
    }


def require_same(settings: dict[str, Any], found: dict[str, Any], out: Path) -> None:
    """Make sure that a run would go on as it began.

    Raises
    ------
    UsageError
        Naming everything that differs.
    """
    names = [name for name in settings if settings[name] != found.get(name)]
    if names:
        differences = "; ".join(f"{name} was {found.get(name)!r}, now {settings[name]!r}" for name in names)
        raise UsageError(
            f"The run in {out} was begun otherwise: {differences}. "
            "Give the same options and the same scans to go on with it, or --overwrite to start anew."
        )


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"Cannot read the weights in {path}: {error.strerror or error}.") from error
