"""Optional parts of ct3d-edge: installed, or an error that names the command to install them."""

import json
import re
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ct3d_edge.errors import MissingExtraError

OPTIMIZE_MODULES = ("onnx_ir",)
"""What the extra `optimize` brings."""

DISTRIBUTION = "ct3d-edge"

ROOT = Path(__file__).parents[1]
"""The checkout, if the package is used in one."""

DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Modules whose distribution has another name."""


def has_modules(modules: Sequence[str]) -> bool:
    """Whether all modules can be imported."""
    return all(find_spec(name) for name in modules)


def require_extra(extra: str, modules: Sequence[str], otherwise: str = "") -> None:
    """Make sure that an extra's modules can be imported, without importing them.

    Parameters
    ----------
    otherwise
        How to do without them, as the last clause of the message.

    Raises
    ------
    MissingExtraError
        Naming what is missing and the command that installs it.
    """
    missing = [DISTRIBUTIONS.get(name, name) for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"This command needs {', '.join(missing)}, not installed here: {pip_install_command(extra)}"
            + (f"; {otherwise}" if otherwise else "")
        )


def pip_install_command(extra: str = "", *options: str) -> str:
    """Make the command that installs ct3d-edge, with an extra if one is named, from where it was installed before.

    No package index has ct3d-edge, so its name alone installs nothing: pip needs the checkout, wheel or address.
    """
    source, editable = _install_source()
    what = source.format(extra=f"[{extra}]" if extra else "")
    quoted = what if re.fullmatch(r"[\w./:-]+", what) else f'"{what}"'
    return " ".join(["pip install", *(["--editable"] if editable else []), quoted, *options])


def _install_source() -> tuple[str, bool]:
    """What pip is to install, with ``{extra}`` to be filled in, and whether as an editable installation."""
    try:
        text = metadata.distribution(DISTRIBUTION).read_text(
            "direct_url.json"
        )  # PEP 610: pip's note of where it came from
    except metadata.PackageNotFoundError:  # used in its checkout without being installed
        return _local_source(ROOT), False
    if text is None:  # pip found it by name, in a private index or a folder of wheels
        return DISTRIBUTION + "{extra}", False
    origin = json.loads(text)
    if origin["url"].startswith("file:"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        folder = Path(url2pathname(urlsplit(origin["url"]).path))
        return _local_source(folder), bool(origin.get("dir_info", {}).get("editable"))
    version_control = origin.get("vcs_info")
    address = f"{version_control['vcs']}+{origin['url']}" if version_control else origin["url"]
    return DISTRIBUTION + "{extra} @ " + _quote_braces(address), False


def _local_source(path: Path) -> str:
    """A checkout or wheel; one that has gone is the checkout that the user is in."""
    return ("." if not path.exists() or path == Path.cwd() else _quote_braces(str(path))) + "{extra}"


def _quote_braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
