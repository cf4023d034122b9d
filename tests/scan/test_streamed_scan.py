import threading
from collections.abc import Callable

import numpy as np
import pytest
from builders import MakeScan
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.scan.gzip_reader import ScanReader
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.nifti import NiftiScan, read_nifti
from ct3d_edge.scan.streamed_scan import NUM_BUFFERS, Buffer, PlanePrefetcher

from .conftest import code_of


def buffers() -> list[Buffer]:
    return [np.zeros(4, np.uint8) for _ in range(NUM_BUFFERS)]


def counting(fail_at: int | None = None) -> Callable[[memoryview], None]:
    """Fills the first buffer with zeros, the next one with ones, and so on."""
    calls = iter(range(1000))

    def fill(buffer: memoryview) -> None:
        number = next(calls)
        if number == fail_at:
            raise UnreadableScanError("truncated", "It ends too early.")
        buffer[:] = bytes([number] * 4)

    return fill


def test_planes_come_in_order_and_the_end_is_checked_behind_them() -> None:
    ends: list[str] = []
    with PlanePrefetcher(counting(), 20, lambda: ends.append(threading.current_thread().name), buffers()) as ahead:
        assert [plane.tolist() for plane in ahead.planes()] == [[n] * 4 for n in range(20)]
    assert ends == ["ct3d-edge read ahead"]


def test_a_plane_is_the_callers_until_the_next_one_is_asked_for() -> None:
    with PlanePrefetcher(counting(), 20, lambda: None, buffers()) as ahead:
        for number, plane in enumerate(ahead.planes()):
            for _ in range(100):
                assert plane.tolist() == [number] * 4


def test_what_goes_wrong_while_reading_is_raised_behind_the_good_planes() -> None:
    with PlanePrefetcher(counting(fail_at=7), 20, lambda: None, buffers()) as ahead:
        planes = ahead.planes()
        assert [int(next(planes)[0]) for _ in range(7)] == list(range(7))
        with pytest.raises(UnreadableScanError, match="too early"):
            next(planes)


def test_what_goes_wrong_at_the_end_is_raised() -> None:
    def finish() -> None:
        raise UnreadableScanError("bad_checksum", "Its checksum is wrong.")

    with (
        PlanePrefetcher(counting(), 2, finish, buffers()) as ahead,
        pytest.raises(UnreadableScanError, match="checksum"),
    ):
        list(ahead.planes())


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_whoever_stops_early_leaves_no_thread(taken: int) -> None:
    before = threading.active_count()
    finished: list[bool] = []
    with PlanePrefetcher(counting(), 20, lambda: finished.append(True), buffers()) as ahead:
        planes = ahead.planes()
        for _ in range(taken):
            next(planes)
    assert threading.active_count() == before
    assert not finished


def test_a_scan_that_would_take_the_machines_memory_is_refused(
    make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_scan()
    monkeypatch.setattr("ct3d_edge.scan.streamed_scan.read_available_memory", lambda: 1000)
    assert code_of(path) == "too_large"


def test_streamed_planes_are_those_of_the_volume(make_scan: MakeScan) -> None:
    for path in (make_scan("a.nii"), make_scan("b.nii.gz")):
        volume = read_nifti(path)
        scan = NiftiScan(path)
        streamed = [plane.copy() for plane in scan.planes([0, 3, 11])]
        assert [plane.tolist() for plane in streamed] == [volume.stored[:, :, k].T.tolist() for k in (0, 3, 11)]
        assert (scan.shape, scan.dtype, scan.slope, scan.intercept) == (volume.shape, volume.dtype, 1, 0)
        assert scan.axis_code == volume.axis_code == "LAS"


@pytest.mark.parametrize(("name", "planes"), [("a.nii", 3), ("b.nii.gz", 12)])
def test_only_a_compressed_file_is_read_whole(
    make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch, name: str, planes: int
) -> None:
    scan = NiftiScan(make_scan(name))
    read: list[int] = []
    fill = ScanReader.fill

    def counted(stream: ScanReader, buffer: memoryview) -> None:
        read.append(len(buffer))
        fill(stream, buffer)

    monkeypatch.setattr(ScanReader, "fill", counted)
    assert len(list(scan.planes([0, 3, 11]))) == 3
    assert read.count(24 * 20 * 2) == planes


@pytest.mark.parametrize("cores", [1, 2])
def test_one_core_reads_what_two_do(make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    path = make_scan()
    monkeypatch.setattr("ct3d_edge.scan.streamed_scan.count_usable_cores", lambda: cores)
    stored = read_nifti(path).stored
    for k, plane in zip((2, 3, 9), NiftiScan(path).planes([2, 3, 9]), strict=True):
        np.testing.assert_array_equal(plane, stored[:, :, k].T)


def test_planes_can_be_streamed_again(make_scan: MakeScan) -> None:
    scan = NiftiScan(make_scan())
    first, second = ([plane.copy() for plane in scan.planes(range(12))] for _ in range(2))
    assert np.array_equal(first, second)


def test_damage_behind_the_last_needed_plane_is_found(make_scan: MakeScan) -> None:
    path = make_scan()
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    scan = NiftiScan(path)
    with pytest.raises(UnreadableScanError) as caught:
        for _ in scan.planes([0]):
            pass
    assert caught.value.code == "bad_checksum"
    assert scan.reading_ms > 0


def test_streaming_holds_three_planes(make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = NiftiScan(make_scan())
    plane = 24 * 20 * 2
    monkeypatch.setattr("ct3d_edge.scan.streamed_scan.read_available_memory", lambda: 6 * plane)
    assert len(list(scan.planes(range(12)))) == 12
    with pytest.raises(UnreadableScanError, match=r"needs 11\.5 kB for its voxels; 5\.76 kB are free"):
        scan.load()


def test_data_behind_a_sound_gzip_stream_give_a_flag(make_scan: MakeScan, hu: NDArray[np.int16]) -> None:
    path = make_scan("scan.nii.gz")
    path.write_bytes(path.read_bytes() + b"<html>proxy error</html>")
    np.testing.assert_array_equal(read_nifti(path).stored, hu)
    assert [flag.code for flag in read_nifti(path).flags] == ["trailing_bytes"]
    contract = Contract(shape=(16, 16, 8))
    assert "trailing_bytes" in [flag.code for flag in preprocess(open_scan(path), contract).flags]
    found = {
        allow: {flag.code: flag.severity for flag in QualityChecker(contract, allow).check(path).flags}
        for allow in ((), ("trailing_bytes",))
    }
    assert found[()]["trailing_bytes"] == "warn"
    assert found["trailing_bytes",]["trailing_bytes"] == "ok"
