from pathlib import Path

import numpy as np
from builders import MakeModel, MakeScan

from ct3d_edge.contract import Contract
from ct3d_edge.preprocess import preprocess
from ct3d_edge.scan import read_nifti

from .conftest import Run


def test_writes_one_array_a_scan_named_after_it(run: Run, make_scan: MakeScan, tmp_path: Path) -> None:
    scan = make_scan("study_1.nii.gz")
    out = tmp_path / "arrays"
    assert run("preprocess", scan, make_scan("study_2.nii"), "--out", out).code == 0
    assert sorted(path.name for path in out.iterdir()) == ["study_1.npy", "study_2.npy"]
    array = np.load(out / "study_1.npy")
    assert array.shape == (128, 128, 64)
    assert array.dtype == np.float32
    assert np.array_equal(array, preprocess(read_nifti(scan), Contract()).volume)


def test_follows_a_models_contract(run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path) -> None:
    assert run("preprocess", make_scan(), "--out", tmp_path / "out", "--model", make_model()).code == 0
    assert np.load(tmp_path / "out" / "scan.npy").shape == (16, 12, 8)


def test_a_broken_scan_is_named_and_the_others_written(run: Run, make_scan: MakeScan, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    make_scan("good.nii.gz", folder=folder)
    (folder / "bad.nii.gz").write_bytes(b"")
    outcome = run("preprocess", folder, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "bad.nii.gz: empty:" in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.npy"]


def test_two_scans_of_one_name_are_refused(run: Run, make_scan: MakeScan, tmp_path: Path) -> None:
    first, second = (make_scan("same.nii.gz", folder=tmp_path / name) for name in "ab")
    outcome = run("preprocess", first, second, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert not (tmp_path / "out").exists()
