"""The model that comes with ct3d-edge."""

import hashlib
import json
from pathlib import Path

from ct3d_edge.errors import ModelError
from ct3d_edge.modelfile.model_file import ModelFile

PACKAGE = Path(__file__).parents[1]
WHEEL_MODELS = PACKAGE / "_models"
CHECKOUT_MODELS = PACKAGE.parent / "models"


def _models_folder() -> Path:
    return CHECKOUT_MODELS if (PACKAGE.parent / "pyproject.toml").is_file() else WHEEL_MODELS


def default_model_path() -> Path:
    """Path of the default model, whose bytes are those of its manifest.

    Raises
    ------
    ModelError
        If this installation came without its models, or the file is not the one in the manifest.
    """
    folder = _models_folder()
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        path = folder / str(manifest["default"])
        (wanted,) = [entry["sha256"] for entry in manifest["models"] if entry["file"] == path.name]
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"This installation holds no usable model ({error!r}). Name the file of another one."
        ) from error
    if found != wanted:
        raise ModelError(f"{path} is not the file in its manifest; it was changed or copied badly. Fetch it again.")
    return path


def is_demo_model(model: ModelFile) -> bool:
    """Whether a file was made, in whatever form and however it is named, of the network that comes with ct3d-edge."""
    source = model.provenance.get("source")
    try:
        manifest = json.loads((_models_folder() / "manifest.json").read_text(encoding="utf-8"))
        shipped = {entry["keras_sha256"] for entry in manifest["models"]}
    except (OSError, ValueError, KeyError, TypeError):  # `default_model_path` tells those who ask for it
        return False
    return isinstance(source, dict) and source.get("sha256") in shipped
