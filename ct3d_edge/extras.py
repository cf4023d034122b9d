"""Optional parts of ct3d-edge: installed, or a sentence that says how to install them."""

from collections.abc import Sequence
from importlib.util import find_spec

from ct3d_edge.errors import MissingExtraError

OPTIMIZE = ("onnx_ir",)
"""What the extra `optimize` brings."""

DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Modules whose distribution has another name."""


def require_extra(extra: str, modules: Sequence[str]) -> None:
    """Make sure that an extra's modules can be imported, without importing them.

    Raises
    ------
    MissingExtraError
        Naming what is missing and the command that installs it.
    """
    missing = [DISTRIBUTIONS.get(name, name) for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f'This command needs {", ".join(missing)}, not installed here: pip install "ct3d-edge[{extra}]"'
        )
