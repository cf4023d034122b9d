from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.scan.volume import Volume

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


def test_an_orientation_that_no_file_states_is_guessed_only_if_allowed(
    run: Run, make_scan: MakeScan, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    scan, written = make_scan(affine=None), tmp_path / "out" / "scan.npy"
    refused = run("preprocess", scan, "--out", tmp_path / "out")
    assert refused.code == 1
    assert "scan.nii.gz: no_orientation:" in refused.err
    assert "wrote 0 of 1 scans" in refused.err
    assert not written.exists()
    allowed = run("preprocess", scan, "--out", tmp_path / "out", "--downgrade-check", "no_orientation")
    assert allowed.code == 0
    assert "scan.nii.gz: no_orientation:" in allowed.err
    assert np.array_equal(np.load(written), preprocess(Volume(hu), Contract()).volume)


def test_two_scans_of_one_name_are_refused(run: Run, make_scan: MakeScan, tmp_path: Path) -> None:
    first, second = (make_scan("same.nii.gz", folder=tmp_path / name) for name in "ab")
    outcome = run("preprocess", first, second, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert not (tmp_path / "out").exists()


def test_a_dicom_folder_is_prepared_series_by_series(run: Run, hu: NDArray[np.int16], tmp_path: Path) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    for number in (1, 2):
        made.write_series(tmp_path / "in", hu + number, f"1.2.{number}", name=f"{{}}-{number}.dcm")
    assert run("preprocess", tmp_path / "in", "--out", tmp_path / "out").code == 0
    for number in (1, 2):
        expected = preprocess(Volume(hu + number, affine=made.affine(hu.shape)), Contract()).volume
        np.testing.assert_allclose(np.load(tmp_path / "out" / f"1.2.{number}.npy"), expected, rtol=0, atol=1e-6)
    outcome = run("preprocess", tmp_path / "in", "--out", tmp_path / "one", "--series-uid", "1.2.2")
    assert outcome.code == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["1.2.2.npy"]


def test_what_is_passed_over_is_said(run: Run, hu: NDArray[np.int16], tmp_path: Path) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    made.write_series(tmp_path / "in" / "chest", hu)
    other = made.series_datasets(hu, "1.2.9")
    for dataset in other:
        dataset.Modality = "MR"
    made.write_datasets(tmp_path / "in" / "other", other)
    outcome = run("preprocess", tmp_path / "in", "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "not_ct: MR images, not CT" in outcome.err
    assert "wrote 1 of 1 scans" in outcome.err


def test_a_part_of_a_series_is_flagged_where_its_folder_was_named(
    run: Run, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    datasets = made.series_datasets(hu)
    parts = [made.write_datasets(tmp_path / name, those) for name, those in (("a", datasets[:6]), ("b", datasets[6:]))]
    outcome = run("preprocess", *parts, "--out", tmp_path / "out")
    assert [outcome.err.count(f"{part}: incomplete_series: 2 of the paths") for part in parts] == [1, 1]
    downgraded = run("preprocess", *parts, "--out", tmp_path / "out", "--downgrade-check", "incomplete_series")
    assert "incomplete_series" not in downgraded.err


def test_slices_that_are_not_in_their_order_are_refused_as_by_infer(run: Run, tmp_path: Path) -> None:
    phantom, scans = make_phantom(3, abnormal=True, shape=(128, 128, 40)), tmp_path / "scans"
    scans.mkdir()
    two = np.concatenate([phantom.hu[..., ::2], phantom.hu[..., 1::2]], axis=2)
    for name, hu in (("sound", phantom.hu), ("exchanged", two)):
        save_scan(replace(phantom, hu=hu), scans / f"{name}.nii")
    refused = run("preprocess", scans, "--out", tmp_path / "out")
    assert refused.code == 1
    assert "exchanged.nii: slice_order:" in refused.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sound.npy"]
    assert run("preprocess", scans, "--out", tmp_path / "out", "--downgrade-check", "slice_order").code == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
