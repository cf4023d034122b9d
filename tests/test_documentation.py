"""What the documentation tells people to type runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import MakeModel, MakeScan

ROOT = Path(__file__).parents[1]


def examples(document: str) -> list[str]:
    """Python blocks of a document."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / document).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, make_scan: MakeScan, make_model: MakeModel) -> Path:
    """A place with the files that the examples name."""
    make_scan("a.nii.gz", folder=tmp_path / "scans")
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"no scan")
    make_model("model.onnx")
    return tmp_path


def output_of(program: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


WRITTEN = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("ct3d_edge/**/*.py")]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_tells_to_install_from_an_index_that_does_not_have_it(path: Path) -> None:
    assert not re.findall(r"""pip install[^`\n]*["' ]ct3d[-_]edge""", path.read_text())


def test_the_examples_of_the_library_run(folder: Path) -> None:
    paths, arrays = examples("library.md")
    alone, among, broken = output_of(paths, folder)
    label, confidence = alone.split()
    assert among.startswith("scans/a.nii.gz {'normal': ")
    assert label in among
    assert confidence in among
    assert broken.startswith("scans/broken.nii.gz not_nifti broken.nii.gz is not a NIfTI file")
    assert output_of(arrays, folder)[0].startswith("{'normal': ")


def test_the_example_of_the_results_runs(folder: Path) -> None:
    (example,) = examples("results.md")
    options = ["infer", "scans", "-m", "model.onnx", "-o", "results.jsonl"]
    program = f"import sys\nsys.argv[1:] = {options}\nfrom ct3d_edge.cli.app import main\n"
    output_of(program + "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 1", folder)
    assert [line.split()[:2] for line in output_of(example, folder)] == [
        ["scans/a.nii.gz", "ok"],
        ["scans/broken.nii.gz", "error"],
    ]


def test_every_test_that_the_page_on_security_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) > 20
    for file, test in named:
        sought = f"def {test}(" if test else "def test_"
        assert sought in (ROOT / file).read_text(), f"{file}::{test}"
