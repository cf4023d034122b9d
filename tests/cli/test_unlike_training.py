"""What `inspect`, `check` and `infer` say of a model that knows its training scans."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import TINY_FEATURES, MakeModel, MakeScan
from numpy.typing import NDArray
from training_stats import RANGE

from ct3d_edge.contract import FeatureStatistics

from .conftest import Run

FAR = FeatureStatistics(
    mean=(100.0,) * TINY_FEATURES,
    directions=((1.0, 0.0),),
    variances=(1.0,),
    residual_variance=1.0,
    threshold=2.0,
    scans=40,
    held_out=20,
)
"""Nothing that the tiny network gives is near these features."""


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model(training_range=RANGE, feature_statistics=FAR)


def test_inspect_tells_it_in_two_lines(run: Run, model: Path) -> None:
    out = run("inspect", "--model", model).out
    assert "300 to 400, 280 to 400, 250 to 340 mm in voxels of 4 to 6, 4 to 6, 8 to 9 mm, 28 to 40 slices" in out
    assert "2 features of 40 scans, 1 direction; a distance above 2 is flagged (20 other scans)" in out
    assert "pooled features     2, for out_of_distribution" in out
    assert "residual_variance" not in out


def test_inspect_gives_the_range_as_data_and_counts_the_statistics(run: Run, model: Path) -> None:
    told = json.loads(run("inspect", "--model", model, "--json").out)["contract"]
    assert told["training_range"]["slices"] == [28, 40]
    assert told["feature_statistics"] == {
        "features": 2,
        "threshold": 2.0,
        "scans": 40,
        "held_out": 20,
        "directions": 1,
    }


def test_inspect_says_what_an_older_file_does_not_know(run: Run, make_model: MakeModel) -> None:
    out = run("inspect", "--model", make_model()).out
    assert out.count("not recorded") == 2
    assert "pooled features     no" in out


def test_check_measures_against_the_range(run: Run, model: Path, make_scan: MakeScan) -> None:
    (quality_report,) = json.loads(run("check", make_scan(), "--model", model, "--json").out)
    found = {flag["code"]: flag for flag in quality_report["flags"]}
    assert (found["slice_count_shift"]["severity"], found["slice_count_shift"]["value"]) == ("warn", 12)
    assert "12 slices along the body, not 28 to 40" in found["slice_count_shift"]["detail"]
    assert "out_of_distribution" not in found, "the network is not run"


@pytest.mark.parametrize("extra", [[], ["--batch-size", "2"], ["--workers", "1"]], ids=str)
def test_infer_keeps_distance_and_limit_in_the_record(
    run: Run, model: Path, make_scan: MakeScan, hu: NDArray[np.int16], tmp_path: Path, extra: list[str]
) -> None:
    for number in range(3):
        make_scan(f"{number}.nii.gz", voxels=(hu + number).astype(np.int16), folder=tmp_path / "scans")
    told = run("infer", tmp_path / "scans", "--model", model, "-p", "cpu", "--format", "jsonl", *extra)
    assert told.code == 0
    for line in told.out.splitlines():
        record = json.loads(line)
        (flag,) = [flag for flag in record["flags"] if flag["code"] == "out_of_distribution"]
        distance, limit = map(float, flag["value"].split())
        assert record["status"] == flag["severity"] == "warn"
        assert distance == pytest.approx(100, rel=0.2)
        assert limit == 2
        assert record["label"]


def test_infer_lets_it_pass_where_it_is_allowed(run: Run, model: Path, make_scan: MakeScan) -> None:
    allow = [
        part
        for code in ("out_of_distribution", "slice_count_shift", "fov_extent")
        for part in ("--downgrade-check", code)
    ]
    told = run("infer", make_scan(), "--model", model, "-p", "cpu", "--format", "jsonl", *allow)
    record = json.loads(told.out)
    assert "out_of_distribution" not in [flag["code"] for flag in record["flags"]]
    assert "out_of_distribution" in record["allowed"]


def test_verify_runs_a_file_with_the_output(run: Run, model: Path) -> None:
    assert run("verify", "--model", model, "-p", "cpu").code == 0
