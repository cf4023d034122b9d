"""The model that comes with ct3d-edge."""

import json
import sys
from pathlib import Path

from ct3d_edge.errors import UsageError

PLACES = (
    Path(__file__).parents[2] / "models",  # a checkout, or an editable install of one
    Path(sys.prefix) / "share" / "ct3d-edge" / "models",  # a wheel
)


def default_model() -> Path:
    """Path of the default model.

    Raises
    ------
    UsageError
        If this installation came without its models.
    """
    for place in PLACES:
        manifest = place / "manifest.json"
        if manifest.is_file():
            return place / str(json.loads(manifest.read_text())["default"])
    raise UsageError("This installation holds no model. Name one: --model MODEL.onnx")
