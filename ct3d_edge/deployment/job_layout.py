"""Where a job's studies come in and its results go out, by the conventions of the system that started it.

============= ====================================================== ==========================================
layout        folders                                                source
============= ====================================================== ==========================================
folder        one study in, one folder out                           ``--in``, ``--out``
studies       a study in each folder, results in folders of its name Kaapana Task API, channel data structure
mercure       ``MERCURE_IN_DIR``, ``MERCURE_OUT_DIR``; settings in   mercure, app/process/process_series.py
              ``task.json``
kaapana       ``/$WORKFLOW_DIR/$BATCH_NAME/*/$OPERATOR_IN_DIR``      Kaapana, KaapanaBaseOperator
map           ``HOLOSCAN_INPUT_PATH``, ``HOLOSCAN_OUTPUT_PATH``, or  MONAI Application Package 1.0
              ``MONAI_INPUTPATH``, ``MONAI_OUTPUTPATH``
grand-        ``/input/images/SLUG``, ``/output``                    grand-challenge, algorithm interface
challenge
============= ====================================================== ==========================================
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ct3d_edge.errors import UsageError
from ct3d_edge.json_validation import parse_object
from ct3d_edge.scan.archive import is_folder

LayoutName = Literal["folder", "studies", "mercure", "kaapana", "map", "grand-challenge"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
DETECTED: tuple[LayoutName, ...] = ("mercure", "kaapana", "map", "grand-challenge")
"""Layouts that are looked for in this order: mercure sets the variables of MAP too."""

MERCURE_VARIABLES = ("MERCURE_IN_DIR", "MERCURE_OUT_DIR")
MAP_VARIABLES = (("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"), ("MONAI_INPUTPATH", "MONAI_OUTPUTPATH"))
KAAPANA_VARIABLES = ("WORKFLOW_DIR", "BATCH_NAME", "OPERATOR_IN_DIR", "OPERATOR_OUT_DIR")
MODEL_VARIABLE = "HOLOSCAN_MODEL_PATH"

TASK_FILE = "task.json"
SETTINGS_KEY = "ct3d-edge"
"""Settings of ct3d-edge alone, where modules of several kinds share the settings of a rule."""


@dataclass(frozen=True)
class Study:
    """One study: the folder with its scans, and the folder for its results."""

    source: Path
    out: Path


@dataclass(frozen=True)
class JobLayout:
    """What a job works on.

    Parameters
    ----------
    name
        The convention followed.
    studies
        Folders in and out.
    settings
        Options by their names, from the system's task file.
    settings_source
        Where they stand, for messages.
    """

    name: LayoutName
    studies: tuple[Study, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_source: str = ""

    def check_folders(self) -> None:
        """Make sure that the studies are there and the results elsewhere: below a study they would be scans next time.

        Raises
        ------
        UsageError
            If not.
        """
        for study in self.studies:
            if not is_folder(study.source):
                raise UsageError(f"There is no folder {study.source}.")
            if study.out.resolve().is_relative_to(study.source.resolve()):
                raise UsageError(f"The results must not be written among the scans: {study.out} is in {study.source}.")


def find_layout(
    name: LayoutName | None,
    source: Path | None,
    out: Path | None,
    environment: Mapping[str, str],
    root: Path = Path("/"),
) -> JobLayout:
    """The layout that was asked for, or the first one that the environment shows.

    Parameters
    ----------
    source, out
        Folders given by the user; they replace those of the environment.
    root
        Below which folders with fixed paths are.

    Raises
    ------
    UsageError
        If only one folder is known, or the environment shows none.
    """
    if (source is None) != (out is None):
        raise UsageError("--in and --out belong together; give both, or none to follow the environment.")
    if source is not None and out is not None:
        name, pairs = name or "folder", [(source, out)]
    else:
        name, pairs = _find_in_environment(name, environment, root)
    if name in ("studies", "kaapana") and source is not None:
        pairs = [(folder, pairs[0][1] / folder.name) for folder in _subfolders(source)]
    layout = JobLayout(name, tuple(Study(*pair) for pair in pairs))
    return _with_settings(layout) if name == "mercure" else layout


def find_model(environment: Mapping[str, str], root: Path = Path("/")) -> Path | None:
    """The one model file that the system brings along; None if there is none.

    Raises
    ------
    UsageError
        If there are several.
    """
    folders = [Path(environment[MODEL_VARIABLE])] if environment.get(MODEL_VARIABLE) else []
    for folder in (*folders, root / "opt/ml/model"):
        files = sorted(folder.rglob("*.onnx")) if is_folder(folder) else []
        if len(files) > 1:
            raise UsageError(f"{folder} holds several models: {', '.join(map(str, files))}. Name one by --model.")
        if files:
            return files[0]
    return None


def _find_in_environment(
    name: LayoutName | None, environment: Mapping[str, str], root: Path
) -> tuple[LayoutName, list[tuple[Path, Path]]]:
    """The first layout of those that may be whose input is there."""
    for candidate in DETECTED if name is None else (name,):
        pairs = _folders(candidate, environment, root)
        if pairs and all(is_folder(source) for source, _ in pairs):
            return candidate, pairs
        if pairs and name is not None:
            raise UsageError(f"There is no folder {next(source for source, _ in pairs if not is_folder(source))}.")
    if name is None:
        raise UsageError(
            "No study: give --in DIR and --out DIR, or run in the environment of "
            f"{', '.join(DETECTED)} (docs/deployment.md)."
        )
    raise UsageError(f"The layout {name} has no folders in this environment. Give --in DIR and --out DIR.")


def _folders(name: LayoutName, environment: Mapping[str, str], root: Path) -> list[tuple[Path, Path]]:
    """Input and output folders of a layout, which need not exist; empty if the environment names none."""
    if name == "mercure":
        return _folders_of_variables(MERCURE_VARIABLES, environment)
    if name == "map":
        return next(filter(None, (_folders_of_variables(pair, environment) for pair in MAP_VARIABLES)), [])
    if name == "kaapana":
        return _kaapana_folders(environment, root)
    if name == "grand-challenge" and is_folder(root / "input"):
        return [(root / "input", root / "output")]
    return []


def _folders_of_variables(names: tuple[str, str], environment: Mapping[str, str]) -> list[tuple[Path, Path]]:
    values = [environment.get(name) for name in names]
    base = Path(environment.get("HOLOSCAN_WORKDIR") or ".")
    return [(base / values[0], base / values[1])] if values[0] and values[1] else []


def _kaapana_folders(environment: Mapping[str, str], root: Path) -> list[tuple[Path, Path]]:
    if not all(map(environment.get, KAAPANA_VARIABLES)):
        return []
    workflow, batch, source, out = (environment[name] for name in KAAPANA_VARIABLES)
    folder = root / workflow.lstrip("/") / batch
    return [(item / source, item / out) for item in _subfolders(folder)] if is_folder(folder) else []


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones.

    Raises
    ------
    UsageError
        If there is none.
    """
    try:
        found = sorted(path for path in folder.iterdir() if is_folder(path) and not path.name.startswith("."))
    except OSError as error:
        raise UsageError(f"Cannot search {folder}: {error.strerror}.") from error
    if not found:
        raise UsageError(f"{folder} holds no folder; with this layout each study has one.")
    return found


def _with_settings(layout: JobLayout) -> JobLayout:
    """The layout with the settings of mercure's task file, if there is one.

    Raises
    ------
    UsageError
        If the file is no task, or its settings are no object.
    """
    path = layout.studies[0].source / TASK_FILE
    try:
        task = parse_object(path.read_bytes(), str(path), UsageError)
    except FileNotFoundError:
        return layout
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
    process = task.get("process") or {}
    settings = process.get("settings") or {} if isinstance(process, dict) else None
    settings = settings.get(SETTINGS_KEY, settings) if isinstance(settings, dict) else None
    if not isinstance(settings, dict):
        raise UsageError(f"{path}: process.settings is no object of settings.")
    return JobLayout(layout.name, layout.studies, settings, f"{path}: process.settings")
