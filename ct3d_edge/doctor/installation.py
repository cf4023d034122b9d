"""Which distributions own the module ``onnxruntime``. Exactly one may: two overwrite each other's files."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from ct3d_edge.extras import pip_install

OWNED = "onnxruntime/__init__.py"


@dataclass(frozen=True)
class Installation:
    """The installed builds of ONNX Runtime.

    Parameters
    ----------
    distributions
        ``(name, version)`` of each one that owns the module ``onnxruntime``.
    """

    distributions: tuple[tuple[str, str], ...]

    @property
    def problem(self) -> str | None:
        """What is wrong, in a sentence."""
        if len(self.distributions) > 1:
            told = " and ".join(f"{name} {version}" for name, version in self.distributions)
            return f"{told} are installed at once and overwrite each other's files; keep one."
        return None if self.distributions else "No distribution of onnxruntime is installed."

    @property
    def remedy(self) -> str | None:
        """The command that would mend it."""
        if len(self.distributions) > 1:
            names = [name for name, _ in self.distributions]
            kept = next((name for name in names if name == "onnxruntime-gpu"), names[0])
            return f"pip uninstall --yes {' '.join(names)} && pip install {kept}"
        return None if self.distributions else pip_install()


def inspect_installation(path: Iterable[str] | None = None) -> Installation:
    """Look through the installed distributions, or those in the folders of ``path``."""
    found = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    return Installation(tuple(sorted({owner for entry in found if (owner := _owner(entry))})))


def _owner(entry: metadata.Distribution) -> tuple[str, str] | None:
    """Name and version of a distribution that put the module there; plugins and tools of a similar name did not."""
    try:
        name = re.sub(r"[-_.]+", "-", entry.metadata["Name"]).lower()
        if name.startswith(("onnxruntime", "ort-")) and any(file.as_posix() == OWNED for file in entry.files or ()):
            return name, entry.version
    except (OSError, ValueError, TypeError, KeyError):  # damaged metadata; pip does not see such a one either
        return None
    return None
