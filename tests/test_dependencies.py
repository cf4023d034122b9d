"""What an installation without extras holds is enough for what it promises."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ct3d_edge"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

OWN = {
    "report/dicom": ("dicom",),
    "results/parquet.py": ("parquet",),
    "cluster": ("ray", "s3"),
    "augmentation": ("train",),
    "evaluation": ("evaluate",),
    "temperature_scaling.py": ("evaluate",),
    "latency/page.py": ("evaluate",),
    "latency/system_monitor.py": ("cuda",),
    "conversion": ("optimize", "train"),
    "providers/plugins.py": ("openvino", "tensorrt-rtx"),
    "node": ("node",),
    "serving": ("serve",),
    "training": ("train", "evaluate", "tensorboard"),
    "keras_backend.py": ("train",),
}
"""Extras that a file or folder of the package may import from; all else makes do with the base installation."""

INDIRECT = {"click", "protobuf"}
"""Distributions that one of the base installation needs and always brings: typer and onnx."""


def distributions(requirements: list[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", line, maxsplit=1)[0]).lower() for line in requirements}


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports, wherever in it, but for those of Python and of ct3d-edge."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"ct3d_edge"}


def test_what_is_imported_outside_of_the_extras_is_in_the_base_installation() -> None:
    base, owners = distributions(PROJECT["dependencies"]) | INDIRECT, packages_distributions()
    unmet = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        extras = [extra for start, names in OWN.items() if place.startswith(start) for extra in names]
        allowed = base.union(*(distributions(PROJECT["optional-dependencies"][extra]) for extra in extras))
        for module in imported(path):
            names = distributions(owners.get(module, [module]))
            if not names & allowed:
                unmet.append(f"{place} imports {module}")
    assert not unmet


@pytest.mark.parametrize("module", ["dicom_files", "ct3d_edge.scan.dicom.pixel_decoder", "ct3d_edge.scan.loader"])
def test_gdcm_does_not_take_the_place_of_zlib(module: str) -> None:
    """Its wheel has a zlib of its own, and the process that loads that one first aborts in `zlib.compress`."""
    pytest.importorskip("gdcm", reason="python-gdcm is not installed")
    code = f"import sys; sys.path[:0] = {sys.path!r}; import {module}, gdcm, zlib; zlib.compress(b'0')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_reading_compressed_dicom_is_in_the_base_installation() -> None:
    pixels = pytest.importorskip("ct3d_edge.scan.dicom.pixel_decoder")
    names = {"gdcm": "python-gdcm", "pydicom": "pydicom"}
    assert {names[plugin] for plugin in pixels.DECODER_PLUGINS} <= distributions(PROJECT["dependencies"])
