import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import ANY_SCAN, MakeModel
from PIL import Image

from ct3d_edge.errors import MissingExtraError, UsageError
from ct3d_edge.evaluation.evaluation import Evaluation, evaluate
from ct3d_edge.evaluation.report import (
    evaluation_files,
    reliability_png,
    require_folder,
    roc_png,
    summary,
    to_csv,
    to_json,
    write_files,
)


@pytest.fixture
def evaluation(model: Path, folder: Path) -> Evaluation:
    return evaluate(model, folder, config=ANY_SCAN, resamples=100)


def test_writes_four_files(evaluation: Evaluation, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    require_folder(out)
    written = write_files(evaluation_files(evaluation), out)
    assert sorted(out.iterdir()) == sorted(written)
    assert [path.name for path in written] == ["evaluation.json", "scans.csv", "roc.png", "reliability.png"]
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(to_json(evaluation.to_dict()))


def test_the_table_has_a_row_a_scan(evaluation: Evaluation, tmp_path: Path) -> None:
    write_files(evaluation_files(evaluation), tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scans.csv").read_text())))
    assert list(rows[0]) == ["scan", "truth", "probability", "prediction", "correct"]
    assert [float(row["probability"]) for row in rows] == [v.probability for v in evaluation.scans]
    assert [row["correct"] for row in rows] == ["True", "True", "False", "True", "True", "False"]


def test_a_name_that_a_spreadsheet_would_run_is_text(evaluation: Evaluation) -> None:
    first = replace(evaluation.scans[0], scan="=1+1/a.nii")
    table = to_csv(replace(evaluation, scans=(first, *evaluation.scans[1:])))
    assert table.splitlines()[1].startswith("'=1+1/a.nii,")


def ink(png: bytes) -> int:
    """Pixels that are neither white nor grey."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return int((pixels.max(axis=2) - pixels.min(axis=2) > 50).sum())


def test_the_plots_show_a_curve_and_points(evaluation: Evaluation) -> None:
    for draw in (roc_png, reliability_png):
        assert ink(draw(evaluation)) > 300


def test_a_label_with_a_dollar_sign_is_no_formula(make_model: MakeModel, folder: Path) -> None:
    odd = make_model(labels=("normal", r"$\frac$"))
    (folder / "abnormal").rename(folder / "other")
    found = evaluate(odd, folder, config=ANY_SCAN, resamples=100)
    assert ink(roc_png(found)) > 300
    assert ink(reliability_png(found)) > 300


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match=r"Cannot make the folder .*out"):
        require_folder(tmp_path / "out")


def test_a_name_that_is_taken_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "roc.png").mkdir()
    with pytest.raises(UsageError, match=r"roc\.png: there is already something"):
        require_folder(tmp_path)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"needs matplotlib.*pip install .*\[evaluate\]"):
        require_folder(tmp_path)


def test_the_summary_puts_warnings_first_and_the_baseline_beside_accuracy(evaluation: Evaluation) -> None:
    lines = summary(evaluation)
    assert lines[0].startswith("WARNING: Few scans")
    (accuracy, baseline) = [line for line in lines if line.startswith(("accuracy", "baseline"))]
    assert accuracy.endswith("   4 of 6 right")
    assert baseline.split() == ["baseline", "0.500", "always", "predicting", "normal"]
    assert baseline.index("always") == accuracy.index("4 of 6")
    assert lines.index(baseline) == lines.index(accuracy) + 1
    assert any("normal counts as normal, abnormal counts as abnormal" in line for line in lines)


def test_the_confusion_matrix_has_truth_as_rows(evaluation: Evaluation) -> None:
    lines = summary(evaluation)
    start = next(n for n, line in enumerate(lines) if "predicted" in line)
    head, normal, abnormal = lines[start : start + 3]
    assert head.split() == ["predicted", "normal", "predicted", "abnormal"]
    assert normal.split() == ["normal", "2", "1"]
    assert abnormal.split() == ["abnormal", "1", "2"]
    assert len(head) == len(normal) == len(abnormal)
