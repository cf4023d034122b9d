"""The picture that `infer --montage` draws."""

from pathlib import Path

import numpy as np
from builders import MakeModel, MakeScan
from PIL import Image

from .conftest import Run


def test_the_montage_has_a_strip_for_each_scan_that_was_judged(
    run: Run, folder: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    run("infer", folder, "--model", make_model(), "--montage", tmp_path / "m.png")
    one = run("infer", folder / "a.nii.gz", "--model", make_model(), "--montage", tmp_path / "one.png")
    assert one.code == 0
    with Image.open(tmp_path / "m.png") as both, Image.open(tmp_path / "one.png") as single:
        assert both.height == 2 * single.height
        assert np.asarray(both).std() > 10, "slices can be seen"


def test_of_scans_without_an_answer_no_picture_or_map_is_written(
    run: Run, explaining_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"no scan")
    sides = ("--montage", tmp_path / "m.png", "--gradcam-dir", tmp_path / "maps")
    outcome = run("infer", tmp_path / "scans", "-m", explaining_model, "-p", "cpu", *sides)
    assert outcome.code == 1
    assert "wrote" not in outcome.err
    assert "--montage: no scan was predicted in this run, so there is nothing to draw" in outcome.err
    assert "--gradcam-dir: no scan has a prediction, so there is no map" in outcome.err
    assert not (tmp_path / "m.png").exists()


def test_a_picture_of_records_that_were_all_taken_over_is_not_written_and_no_failure(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    command = ("infer", make_scan(), "-m", make_model(), "-o", tmp_path / "r.jsonl", "--resume")
    assert run(*command).code == 0
    outcome = run(*command, "--montage", tmp_path / "m.png")
    assert outcome.code == 0
    assert "nothing to draw" in outcome.err
    assert not (tmp_path / "m.png").exists()


def test_a_picture_must_be_a_png(run: Run, make_scan: MakeScan, make_model: MakeModel) -> None:
    outcome = run("infer", make_scan(), "--model", make_model(), "--montage", "m.jpg")
    assert outcome.code == 2
    assert "must end in .png" in outcome.err
