"""Optional packages: there, or a sentence that says how to install them."""

from importlib.util import find_spec

from ct3d_edge.errors import MissingExtraError


def require_extra(extra: str, *modules: str) -> None:
    """Make sure that modules of one of the project's extras can be imported, without importing them.

    Raises
    ------
    MissingExtraError
        Naming those that are not installed.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f'This command needs {", ".join(missing)}, not installed here: pip install "ct3d-edge[{extra}]"'
        )
