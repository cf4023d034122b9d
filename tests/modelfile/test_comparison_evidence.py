import json
from dataclasses import replace
from pathlib import Path

import pytest

from ct3d_edge.errors import ModelError
from ct3d_edge.modelfile.comparison_evidence import ComparisonEvidence, read_run_evidence, to_json

EVIDENCE = ComparisonEvidence(
    model_sha256="a" * 64,
    reference_sha256="0123456789ab" + "c" * 52,
    student=True,
    data="phantoms",
    data_sha256="d" * 64,
    scans=(200, 200),
    unpredicted=0,
    auc=0.951,
    reference_auc=0.954,
    difference=-0.003,
    low=-0.012,
    high=0.006,
    bootstrap_low=-0.013,
    bootstrap_high=0.005,
    specificity=0.9,
    sensitivity=0.87,
    reference_sensitivity=0.88,
    margin=0.02,
)


def test_one_line_says_what_was_compared_and_how_it_ended() -> None:
    assert EVIDENCE.describe() == (
        "student of 0123456789ab..., AUC difference -0.003 (-0.012 to +0.006) on 400 phantoms; non-inferior at a "
        "margin of 0.02"
    )
    narrow = replace(EVIDENCE, student=False, margin=0.01, data="scans")
    assert narrow.describe().startswith("compared with 0123456789ab..., ")
    assert narrow.describe().endswith("on 400 scans; not shown to be non-inferior at a margin of 0.01")


@pytest.mark.parametrize(
    ("low", "bootstrap_low", "shown"), [(-0.01, -0.01, True), (-0.02, 0, False), (0, -0.03, False)]
)
def test_both_intervals_count(low: float, bootstrap_low: float, shown: int) -> None:
    assert replace(EVIDENCE, low=low, bootstrap_low=bootstrap_low).non_inferior == shown


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(to_json(EVIDENCE))
    assert read_run_evidence(file) == EVIDENCE
    assert json.loads(file.read_text())["non_inferior"] is True


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps({**EVIDENCE.to_dict(), "reader": "none"}))
    assert read_run_evidence(file) == EVIDENCE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2}, "has schema 2; this ct3d-edge reads 1"),
        ({"auc": 1.5}, "auc"),
        ({"model_sha256": "\x1b[31m"}, "model_sha256"),
        ({"scans": [0, 4]}, "scans"),
    ],
)
def test_what_it_cannot_be_is_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps({**EVIDENCE.to_dict(), **change}))
    with pytest.raises(ModelError, match=reason):
        read_run_evidence(file)


def test_a_file_that_is_gone_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"comparison\.json cannot be read"):
        read_run_evidence(tmp_path / "comparison.json")
    (tmp_path / "comparison.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        read_run_evidence(tmp_path / "comparison.json")
