"""``infer --gradcam-dir``: maps in the scan's own space."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from builders import LAS, MakeModel, MakeScan
from numpy.typing import NDArray
from PIL import Image

from ct3d_edge.cli.extra_outputs import unique_names

from .conftest import Run


@pytest.fixture
def model(explaining_model: Path) -> Path:
    return explaining_model


def test_each_scan_gets_a_map_on_itself_and_a_picture(
    run: Run, model: Path, make_scan: MakeScan, tmp_path: Path, hu: NDArray[np.int16]
) -> None:
    scans = tmp_path / "scans"
    make_scan("a.nii.gz", folder=scans)
    turned = np.diag([3.0, 2.0, 8.0, 1.0])
    make_scan("b.nii", voxels=hu[::-1, :, :-2], affine=turned, folder=scans)
    make_scan("a.nii", folder=scans / "second")
    (scans / "broken.nii").write_text("no scan")
    outcome = run("infer", scans, "--model", model, "--gradcam-dir", tmp_path / "maps")
    assert outcome.code == 1
    assert f"wrote {tmp_path / 'maps'}" in outcome.err
    maps = {path.name for path in (tmp_path / "maps").iterdir()}
    assert maps == {f"{name}_gradcam.{kind}" for name in ("a", "b", "a-2") for kind in ("nii.gz", "png")}
    for name, affine, shape in (("a", LAS, hu.shape), ("b", turned, (24, 20, 10))):
        image = nib.load(tmp_path / "maps" / f"{name}_gradcam.nii.gz")
        assert image.shape == shape
        assert np.array_equal(image.affine, affine)
    with Image.open(tmp_path / "maps" / "a_gradcam.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (6 * 12, 2 * 16))


def test_the_answers_are_those_without_explanation(run: Run, model: Path, make_scan: MakeScan, tmp_path: Path) -> None:
    scan = make_scan()
    plain = run("infer", scan, "--model", model, "--format", "csv").out.split(",")
    explained = run("infer", scan, "--model", model, "--format", "csv", "--gradcam-dir", tmp_path / "maps").out.split(
        ","
    )
    assert plain[:20] == explained[:20]


def test_a_run_that_goes_on_draws_only_what_is_missing(
    run: Run, model: Path, make_scan: MakeScan, tmp_path: Path
) -> None:
    scans, out, maps = tmp_path / "scans", tmp_path / "r.jsonl", tmp_path / "maps"
    for name in ("a.nii", "b.nii"):
        make_scan(name, folder=scans)
    make_scan("c.nii", affine=np.diag([2.0, 2.0, 8.0, 1.0]), folder=scans)
    command = ("infer", scans, "--model", model, "--out", out, "--resume")
    assert run(*command).code == 0
    assert run(*command, "--gradcam-dir", maps).code == 0
    assert len(list(maps.iterdir())) == 6
    (maps / "b_gradcam.png").unlink()
    kept = (maps / "a_gradcam.nii.gz").stat().st_mtime_ns
    assert run(*command, "--gradcam-dir", maps).code == 0
    assert (maps / "b_gradcam.png").exists()
    assert (maps / "a_gradcam.nii.gz").stat().st_mtime_ns == kept


def test_a_file_that_cannot_explain_says_how_to_make_one(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    outcome = run("infer", make_scan(), "--model", make_model(), "--gradcam-dir", tmp_path / "maps")
    assert outcome.code == 3
    assert "ct3d-edge export --model MODEL.keras --out MODEL.onnx --with-gradcam-output" in outcome.err


def test_optimizing_again_keeps_or_takes_away_the_output(run: Run, model: Path, tmp_path: Path) -> None:
    from ct3d_edge.modelfile.model_file import load_model_file

    again, without = tmp_path / "again.onnx", tmp_path / "without.onnx"
    parity = ("--parity-data", tmp_path / "proof")
    assert run("optimize", "--model", model, "--out", again, "--with-gradcam-output", *parity).code == 0
    assert run("optimize", "--model", model, "--out", without, *parity).code == 0
    assert load_model_file(again).features == load_model_file(model).features == (2, 14, 10, 6)
    assert load_model_file(without).features is None
    assert load_model_file(without).nodes < load_model_file(again).nodes


def test_names_never_meet() -> None:
    names = unique_names([Path("x/a.nii"), Path("y/A.nii.gz"), Path("a-2.nii"), Path("z/a.nii")])
    assert sorted(names.values()) == ["A-2", "a", "a-2-2", "a-3"]


def test_a_report_shows_every_scan_also_of_a_run_that_goes_on(
    run: Run, model: Path, make_scan: MakeScan, tmp_path: Path
) -> None:
    scans, report = tmp_path / "scans", tmp_path / "report.html"
    make_scan("a.nii", folder=scans)
    (scans / "broken.nii").write_text("no scan")
    command = ("infer", scans, "--model", model, "--out", tmp_path / "r.jsonl", "--resume", "--report", report)
    assert run(*command).code == 1
    first = report.read_text()
    assert '"lung"' in first
    assert '"heat"' not in first
    assert run(*command, "--gradcam-dir", tmp_path / "maps").code == 1
    assert '"heat"' in report.read_text()
    assert str(tmp_path) not in report.read_text()
