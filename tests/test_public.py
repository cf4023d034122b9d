import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import ct3d_edge

PUBLIC = {
    "CheckFailedError",
    "CompileOptions",
    "Contract",
    "ContractError",
    "Ct3dError",
    "DatasetError",
    "DiskError",
    "DownloadError",
    "InconclusiveError",
    "InferenceConfig",
    "MissingExtraError",
    "Model",
    "ModelError",
    "OutputError",
    "ProviderError",
    "QCFlag",
    "QualityReport",
    "RefusedScanError",
    "ResultRecord",
    "ScanError",
    "TuneConfig",
    "UnreadableScanError",
    "UsageError",
    "Volume",
    "WorkerError",
    "__version__",
    "bench",
    "check",
    "compare_models",
    "distill",
    "evaluate",
    "export",
    "find_scans",
    "load_model",
    "open_scan",
    "optimize",
    "predict",
    "predict_many",
    "preprocess",
    "read_nifti",
    "train",
    "tune",
    "verify",
}
HEAVY = ("numpy", "onnxruntime", "tensorflow", "keras", "matplotlib", "scipy", "nibabel")


def imported_for_type_checkers() -> set[str]:
    """Names that the package's file imports under ``TYPE_CHECKING``."""
    tree = ast.parse(Path(ct3d_edge.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in ast.walk(block) if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names}


def test_the_public_list_is_exact() -> None:
    assert set(ct3d_edge.__all__) == PUBLIC
    assert ct3d_edge.__all__ == sorted(PUBLIC)


def test_every_public_name_is_there() -> None:
    assert [name for name in sorted(PUBLIC) if getattr(ct3d_edge, name) is None] == []


def test_type_checkers_see_the_same_list() -> None:
    assert imported_for_type_checkers() | {"__version__"} == PUBLIC


def test_star_import_brings_exactly_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from ct3d_edge import *", names)  # noqa: S102  # the statement under test
    assert set(names) - {"__builtins__"} == PUBLIC


def test_a_name_that_is_not_public_does_not_resolve() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ct3d_edge.nothing


def test_the_version_is_the_distributions() -> None:
    assert ct3d_edge.__version__ == metadata.version("ct3d-edge")


@pytest.mark.parametrize("module", ["ct3d_edge", "ct3d_edge.cli.app"])
def test_importing_is_light(module: str) -> None:
    """``ct3d-edge --help`` must not wait for libraries that it does not use."""
    program = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_dir_lists_the_public_names_before_they_are_used() -> None:
    code = "import ct3d_edge; print(*dir(ct3d_edge))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(listed) >= PUBLIC


def test_the_package_runs_as_the_command() -> None:
    ran = subprocess.run([sys.executable, "-m", "ct3d_edge", "--version"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ct3d_edge.__version__ in ran.stdout
