"""What the documentation tells people to type runs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from builders import MakeModel, MakeScan

from ct3d_edge.cli.app import app
from ct3d_edge.cli.click_extras import FORMER_OPTIONS

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


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
"""What describes the present tree; decisions describe that of their day."""

OTHER_PROGRAMS = {"--data-binary", "--editable", "--generate", "--groups", "--head", "--network", "--no-deps", "--yes"}
"""Options of pip, curl and others."""

SCRIPTS = [*sorted((ROOT / "bench").rglob("*.py")), *sorted((ROOT / "export").glob("*.py"))]
SCRIPT_OPTIONS = set(re.findall(r'"(--[a-z-]+)"', "\n".join(path.read_text() for path in SCRIPTS)))


def options_of(command: Any) -> Iterator[str]:
    """Options of a command and of the commands below it."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for further in getattr(command, "commands", {}).values():
        yield from options_of(further)


def anchors_of(page: Path) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_links_and_options_in_a_page_exist(page: Path) -> None:
    text = page.read_text()
    files = re.findall(r"(?<![\w/])((?:ct3d_edge|tests|docs|bench|export|tools)/[\w/-]+\.(?:py|md|json|toml))", text)
    scripts = set(re.findall(r"python -m bench\.(\w+)", text))
    files += [f"bench/{name}.py" for name in scripts if not (ROOT / "bench" / name / "__main__.py").exists()]
    assert [file for file in files if not (ROOT / file).exists()] == []
    links = [link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    targets = [((page.parent / path) if path else page, anchor) for path, _, anchor in links]
    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [anchor for target, anchor in targets if anchor and anchor not in anchors_of(target)] == []
    named = set(re.findall(r"(?<![\w/-])--[a-z][a-z-]+[a-z]", text)) - OTHER_PROGRAMS - SCRIPT_OPTIONS
    if page.name == "CHANGELOG.md":
        named -= {*FORMER_OPTIONS, "--plot"}
    known = {"--help", "--install-completion", *options_of(typer.main.get_command(app))}
    assert sorted(named - known) == []


WRITTEN = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("ct3d_edge/**/*.py")]


def test_nothing_tells_to_install_from_an_index_that_does_not_have_it() -> None:
    command = re.compile(r"""pip install[^`\n]*["' ]ct3d[-_]edge""")
    assert [path for path in WRITTEN if command.search(path.read_text())] == []


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
