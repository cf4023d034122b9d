"""One scan's work with a limit in time."""

import threading
from pathlib import Path

import pytest

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.inference import worker_pool


def test_what_is_done_in_time_is_handed_over() -> None:
    assert worker_pool.run_with_timeout(None, lambda path, _: path.name, Path("folder/scan.nii")) == "scan.nii"

    def refuse(path: Path, _: worker_pool.CheckCancelled) -> None:
        raise RefusedScanError("not_ct", f"{path.name} is none.")

    with pytest.raises(RefusedScanError, match=r"scan\.nii is none"):
        worker_pool.run_with_timeout(60, refuse, Path("scan.nii"))


def test_work_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "SHUTDOWN_GRACE_S", 0.01)
    drive = threading.Event()
    try:
        with pytest.raises(UnreadableScanError, match=r"not finished within 0\.01 s") as error:
            worker_pool.run_with_timeout(0.01, lambda *_: drive.wait(60), Path("scan.nii"))
    finally:
        drive.set()
    assert error.value.code == "timeout"
