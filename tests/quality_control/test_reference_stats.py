from pathlib import Path

import numpy as np
import pytest
from builders import MakeScan
from training_stats import RANGE, drawn, statistics

from ct3d_edge.contract import Contract
from ct3d_edge.quality_control.reference_stats import (
    MIN_SCANS,
    acquisition_range,
    describe_range,
    describe_statistics,
    with_training_stats,
)


@pytest.fixture
def scans(make_scan: MakeScan, tmp_path: Path) -> list[Path]:
    """Slices 1 to 20 mm apart, one of each; in the others 2 mm."""
    affines = [np.diag([-2.0, 2.0, float(edge), 1.0]) for edge in range(1, 21)]
    return [make_scan(f"{n:02}.nii.gz", affine=affine, folder=tmp_path / "set") for n, affine in enumerate(affines)]


def test_a_range_holds_the_percentiles_of_what_headers_say(scans: list[Path]) -> None:
    found = acquisition_range(scans)
    assert found is not None
    edges = np.percentile(np.arange(1, 21), [1, 99])
    assert found.scans == 20
    assert found.extent_mm[0] == pytest.approx((48, 48))
    assert found.extent_mm[1] == pytest.approx((40, 40))
    assert found.extent_mm[2] == pytest.approx(12 * edges, rel=1e-3)
    assert found.spacing_mm[2] == pytest.approx(edges, rel=1e-3)
    assert found.slices == pytest.approx((12, 12))


def test_one_header_in_other_units_does_not_widen_it(scans: list[Path], make_scan: MakeScan) -> None:
    wrong = make_scan("wrong.nii.gz", affine=np.diag([-2.0, 2.0, 5000.0, 1.0]))
    found = acquisition_range([*(scans * 10), wrong])
    assert found is not None
    assert found.spacing_mm[2][1] == 20


def test_scans_that_are_gone_or_do_not_say_are_not_counted(scans: list[Path], make_scan: MakeScan) -> None:
    scans[0].unlink()
    found = acquisition_range([*scans, make_scan("unsaid.nii.gz", affine=None)])
    assert found is not None
    assert found.scans == 19
    assert acquisition_range(scans[:MIN_SCANS]) is None
    assert acquisition_range(scans[: MIN_SCANS + 1]) is not None


def test_both_are_recorded_and_told(scans: list[Path]) -> None:
    made, said = with_training_stats(Contract(threshold=0.3), scans, drawn(60, 12), drawn(30, 12, seed=1))
    assert made.without_training_stats == Contract(threshold=0.3)
    assert made.training_range == acquisition_range(scans)
    assert made.feature_statistics == statistics(12)
    assert [line.split(":")[0] for line in said] == ["training range", "feature statistics"]


def test_what_cannot_be_known_is_told_and_what_was_known_before_is_gone(scans: list[Path]) -> None:
    known = Contract(feature_statistics=statistics(12))
    made, said = with_training_stats(known, scans[:3], None, None)
    assert made == known.without_training_stats
    assert said[0].startswith("no training range: fewer than 10")
    assert said[1].startswith("no feature statistics: the network has no global average pooling")
    made, said = with_training_stats(known, scans, drawn(5, 12), drawn(5, 12))
    assert made.feature_statistics is None
    assert "5 training and 5 validation scans are too few" in said[1]


def test_features_of_a_scale_that_no_contract_holds_cost_the_statistics_alone(scans: list[Path]) -> None:
    large = [drawn(60, 12) * 1e5, drawn(30, 12, seed=1) * 1e5]
    made, said = with_training_stats(Contract(feature_statistics=statistics(12)), scans, *large)
    assert made == Contract(training_range=acquisition_range(scans))
    assert f"no feature statistics: the features reach {np.abs(large[0]).max():.1e}" in said[1]


def test_ranges_and_statistics_are_described_in_a_line() -> None:
    assert describe_range(RANGE) == (
        "300 to 400, 280 to 400, 250 to 340 mm in voxels of 4 to 6, 4 to 6, 8 to 9 mm, 28 to 40 slices (40 scans)"
    )
    assert describe_statistics(statistics()).startswith("12 features of 60 scans, 10 directions; a distance above ")
