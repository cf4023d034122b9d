"""DICOM series through the pipeline: judged, recognised again, waited for, as any other scan."""

from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from ct3d_edge import load_model
from ct3d_edge.errors import RefusedScanError, UsageError
from ct3d_edge.inference.predict import load_known_record
from ct3d_edge.inference.predict_many import predict_scans
from ct3d_edge.inference.prepare import prepare_scan
from ct3d_edge.inference.watch import WatchedFolder
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.scan.loader import FileStamp, content_sha256
from ct3d_edge.session.runner import Runner

made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")


@pytest.fixture
def chest(tmp_path: Path, hu: NDArray[np.int16]) -> Path:
    folder: Path = made.write_series(tmp_path / "incoming" / "chest", hu)
    return folder


def test_the_library_judges_a_series_as_the_volume_it_holds(
    chest: Path, make_scan: MakeScan, make_model: MakeModel, hu: NDArray[np.int16]
) -> None:
    same = make_scan(affine=made.affine(hu.shape))
    with load_model(make_model(), "cpu") as model:
        nifti, series = model.predict_many([same, chest])
        assert series.prediction == model.predict(chest / "000.dcm").prediction == nifti.prediction
        assert (series.status, [flag.code for flag in series.flags]) == ("warn", ["duplicate"])
        assert series.scan_sha256 == content_sha256(chest)
        (chest / "005.dcm").unlink()
        with pytest.raises(RefusedScanError, match="slice"):
            model.predict(chest)
    with load_model(make_model(), "cpu", allow=["missing_slices"]) as model:
        assert model.predict(chest).status == "warn"
    with pytest.raises(UsageError, match="There is no check holes"):
        load_model(make_model(), "cpu", allow=["holes"])


def test_the_hash_of_a_series_is_that_of_its_files(chest: Path) -> None:
    before = content_sha256(chest)
    (chest / "000.dcm").rename(chest / "last.dcm")
    assert content_sha256(chest) == before
    (chest / "last.dcm").unlink()
    assert content_sha256(chest) != before


def test_a_record_holds_until_a_slice_comes_or_something_else_is_allowed(chest: Path, runner: Runner) -> None:
    last = chest / "000.dcm"
    slice_ = last.read_bytes()
    last.unlink()
    checker = QualityChecker(runner.contract)
    known = {str(chest): next(predict_scans([chest], runner, checker=checker)).record}
    assert load_known_record(chest, known, runner, checker) is known[str(chest)]
    assert load_known_record(chest, known, runner, QualityChecker(runner.contract, ["too_few_slices"])) is None
    last.write_bytes(slice_)
    assert load_known_record(chest, known, runner, checker) is None


def test_a_series_that_changes_while_it_is_read_is_no_answer(chest: Path, runner: Runner) -> None:
    blocks = iter(range(10_000))

    def remove_in_the_middle() -> None:
        if next(blocks) == 40:
            (chest / "000.dcm").unlink()

    reading = prepare_scan(chest, runner.contract, remove_in_the_middle)
    assert reading.failed is not None
    assert reading.failed[1].code == "modified_during_read"


class Enough(BaseException):
    """What a caller raises who waits no longer."""


@pytest.mark.parametrize("limit", [0, 20, 40, 60])
def test_reading_a_series_can_be_ended_between_any_two_slices(chest: Path, runner: Runner, limit: int) -> None:
    blocks = iter(range(10_000))

    def stop() -> None:
        if next(blocks) == limit:
            raise Enough

    with pytest.raises(Enough):
        prepare_scan(chest, runner.contract, stop)


def test_a_series_is_whole_when_no_slice_came_for_a_while(chest: Path) -> None:
    now = [0.0]
    inbox = WatchedFolder(chest.parent, stable_for=5, clock=lambda: now[0])

    def after(seconds: float) -> list[Path]:
        now[0] += seconds
        return inbox.poll()

    last = chest / "005.dcm"
    slice_ = last.read_bytes()
    last.unlink()
    assert [after(0), after(4)] == [[], []]
    last.write_bytes(slice_)
    assert [after(1), after(4), after(1)] == [[], [], [chest]]
    assert after(500) == []
    last.unlink()
    assert [after(1), after(5)] == [[], [chest]]
    assert len(FileStamp.of(chest).files) == 11
