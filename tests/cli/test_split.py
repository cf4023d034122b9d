"""``ct3d-edge data split``: shares, duplicates and errors as a user reads them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 and 40 files that only look like scans."""
    for label, count in (("CT-0", 20), ("CT-23", 40)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for n in range(count):
            (tmp_path / "data" / label / f"study_{label}_{n:02}.nii").write_bytes(f"{label} {n}".encode())
    return tmp_path / "data"


def test_shares_are_told_and_written(run: Run, folder: Path, tmp_path: Path) -> None:
    outcome = run("data", "split", folder, "--out", tmp_path / "split.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        f"{tmp_path / 'split.json'}: 60 scans, seed 0",
        "CT-0: 14 train (70.0%), 3 validation (15.0%), 3 test (15.0%)",
        "CT-23: 28 train (70.0%), 6 validation (15.0%), 6 test (15.0%)",
    ]
    data = json.loads((tmp_path / "split.json").read_text())
    assert (data["schema"], data["seed"], len(data["entries"])) == (2, 0, 60)


def test_the_same_input_gives_the_same_bytes_and_another_seed_others(run: Run, folder: Path, tmp_path: Path) -> None:
    written = []
    for seed in (4, 4, 5):
        run("data", "split", folder, "--out", tmp_path / "split.json", "--seed", seed, "--force")
        written.append((tmp_path / "split.json").read_bytes())
    assert written[0] == written[1] != written[2]


def test_folds_patients_duplicates_and_bad_files_are_told(run: Run, folder: Path, tmp_path: Path) -> None:
    scans = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.nii"))
    rows = [f"{scan},{scan.split('/')[0]}-{int(scan[-6:-4]) // 2}" for scan in scans]
    (folder / "CT-0" / "twin.nii").write_bytes((folder / scans[0]).read_bytes())
    (folder / "CT-23" / "empty.nii").touch()
    table = tmp_path / "patients.csv"
    table.write_text("\n".join(["scan,patient", *rows, "twin.nii,CT-0-0", "empty.nii,x"]))
    options = ["--out", tmp_path / "split.json", "--patients", table, "--folds", 3, "--test", 0.1]
    outcome = run("data", "split", folder, *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert "error: 1 of 62 scans cannot be used" in outcome.err
    assert "CT-23/empty.nii: empty.nii is empty" in outcome.err
    assert not (tmp_path / "split.json").exists()
    outcome = run("data", "split", folder, *options, "--skip-invalid")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1:] == [
        "CT-0: 14 train (70.0%), 4 validation (20.0%), 2 test (10.0%)",
        "CT-23: 30 train (75.0%), 6 validation (15.0%), 4 test (10.0%)",
        "folds of CT-0: 6, 6, 6",
        "folds of CT-23: 12, 12, 12",
        "30 patients, each on one side",
        f"duplicate: CT-0/twin.nii has the content of {scans[0]}",
        "left out: CT-23/empty.nii: empty.nii is empty (0 bytes). Copy or export it again.",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "30"], "Class CT-0 has 17 scans; at least 30 are needed, one a fold for 30 folds"),
        (["--folds", "1"], "There must be at least 2 folds, found 1."),
        (["--validation", "0.9", "--test", "0.2"], "Validation 0.9 and test 0.2 leave nothing to train on."),
        (["--patients", "nowhere.csv"], "The table nowhere.csv cannot be read: No such file or directory."),
    ],
)
def test_errors_are_sentences(run: Run, folder: Path, tmp_path: Path, options: list[str], message: str) -> None:
    outcome = run("data", "split", folder, "--out", tmp_path / "split.json", *options)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {message}")
    assert not (tmp_path / "split.json").exists()


def test_a_place_that_cannot_be_written_is_noticed_first(run: Run, tmp_path: Path) -> None:
    outcome = run("data", "split", tmp_path / "nowhere", "--out", tmp_path / "no" / "split.json")
    assert outcome.code == 2
    assert outcome.err.startswith("error: Cannot write")


def test_a_name_cannot_steer_the_terminal(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "CT-0" / "twin\x1b[2J.nii").write_bytes((folder / "CT-0" / "study_CT-0_00.nii").read_bytes())
    outcome = run("data", "split", folder, "--out", tmp_path / "split.json")
    assert "twin\\x1b[2J.nii" in outcome.out
    assert "\x1b" not in outcome.out


def test_dividing_needs_neither_keras_nor_tensorflow(folder: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["keras"] = sys.modules["tensorflow"] = sys.modules["onnxruntime"] = None
sys.argv = ["ct3d-edge", "data", "split", {str(folder)!r}, "--out", {str(tmp_path / "split.json")!r}]
from ct3d_edge.cli.app import main
main()
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (tmp_path / "split.json").is_file()


def test_a_split_that_is_there_is_replaced_only_by_force(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.json"
    out.write_text("precious")
    outcome = run("data", "split", folder, "--out", out)
    assert (outcome.code, out.read_text()) == (2, "precious")
    assert "add --force" in outcome.err
    assert run("data", "split", folder, "--out", out, "--force").code == 0
