import base64
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders import ANY_SCAN, MakeModel
from PIL import Image

from ct3d_edge.evaluation.compare_models import compare_models
from ct3d_edge.evaluation.comparison import Comparison, UnpairedScan
from ct3d_edge.evaluation.comparison_report import comparison_page, comparison_summary, write_comparison_files


@pytest.fixture
def comparison(model: Path, make_model: MakeModel, folder: Path) -> Comparison:
    """The two rank alike, and differ in the threshold."""
    return compare_models(model, make_model("other.onnx", threshold=0.44), folder, config=ANY_SCAN, resamples=100)


def test_the_summary_names_the_reference_and_ends_with_the_outcome(comparison: Comparison) -> None:
    lines = comparison_summary(comparison)
    assert any(line.startswith("reference") and "other.onnx" in line for line in lines)
    (area,) = [line for line in lines if line.startswith("AUC")]
    assert area.split() == ["AUC", "0.444", "0.444", "+0.000", "+0.000", "to", "+0.000", "(DeLong)"]
    assert lines[-1] == "Non-inferior at a margin of 0.02 in AUC: both intervals of the difference are above -0.02."
    start = next(n for n, line in enumerate(lines) if "difference  95" in line)
    assert max(map(len, lines[start : start + 7])) <= 80


def test_scans_too_many_for_the_terminal_are_where_the_caller_says(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.evaluation.comparison_report.MAX_LISTED", 0)
    rest = len(comparison.differing)
    assert rest > 0
    assert f"and {rest} more, which --out lists" in comparison_summary(comparison, "which --out lists")


def test_differing_scans_are_a_table(comparison: Comparison) -> None:
    lines = comparison_summary(comparison)
    start = next(n for n, line in enumerate(lines) if line.startswith("truth"))
    rows = lines[start + 1 : start + 1 + len(comparison.differing)]
    assert rows
    assert [row.split()[-1] for row in rows] == [pair.model.scan for pair in comparison.differing]


def test_the_outcome_says_why_not(comparison: Comparison) -> None:
    seen = replace(comparison, invalid_because=("All are training scans.",))
    assert comparison_summary(seen)[0] == "WARNING: All are training scans."
    assert comparison_summary(seen)[-1].endswith("the scans are no test of both.")
    figures = replace(
        comparison.figures, auc_difference=replace(comparison.figures.auc_difference, value=-0.1, low=-0.3)
    )
    worse = replace(comparison, figures=figures)
    assert comparison_summary(worse)[-1].endswith("an interval of the difference reaches -0.300.")


def test_the_page_shows_both_curves_and_the_scans_that_differ(comparison: Comparison) -> None:
    page = comparison_page(comparison)
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) == 1 + len(comparison.differing)
    for picture in pictures:
        assert Image.open(io.BytesIO(base64.b64decode(picture))).width > 50
    assert "http" not in page
    assert "<script" not in page


def test_names_in_the_page_are_text(comparison: Comparison) -> None:
    odd = replace(comparison, unpaired=(UnpairedScan("<b>x</b>.nii", "model", "<i>"),))
    page = comparison_page(odd)
    assert "&lt;b&gt;x&lt;/b&gt;.nii" in page
    assert "<i>" not in page


def test_writes_the_files_of_an_evaluation_and_the_page(comparison: Comparison, tmp_path: Path) -> None:
    written = write_comparison_files(comparison, tmp_path)
    names = ["evaluation.json", "scans.csv", "roc.png", "reliability.png", "comparison.html"]
    assert [path.name for path in written] == names
    assert json.loads((tmp_path / "evaluation.json").read_text())["comparison"]["margin"] == 0.02
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scans.csv").read_text())))
    assert list(rows[0])[-2:] == ["reference_probability", "reference_prediction"]
    assert [float(row["reference_probability"]) for row in rows] == [p.reference.probability for p in comparison.pairs]


def test_a_scan_that_is_gone_has_a_row_without_a_picture(comparison: Comparison) -> None:
    first = comparison.differing[0].model.scan
    (comparison.model.folder / first).unlink()
    page = comparison_page(comparison)
    assert first in page
    assert page.count("data:image/png") == len(comparison.differing)
