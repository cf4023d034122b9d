"""``--dicom-sc`` and ``--dicom-pm``: Grad-CAM maps for the archive, of one run, of a job and of a watched folder."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from .conftest import Run

made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")


@pytest.fixture
def series(tmp_path: Path, hu: NDArray[np.int16]) -> Path:
    """Twelve slices that give all that a parametric map refers to."""
    datasets = made.series_datasets(hu)
    for dataset in datasets:
        dataset.FrameOfReferenceUID = "1.2.3.9"
    return Path(made.write_datasets(tmp_path / "scans" / "chest", datasets))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def uids(folder: Path) -> dict[str, str]:
    return {path.name: pydicom.dcmread(path).SOPInstanceUID for path in folder.glob("*.dcm")}


def test_infer_writes_maps_of_series_once(
    run: Run, series: Path, explaining_model: Path, make_scan: MakeScan, tmp_path: Path
) -> None:
    make_scan("other.nii.gz", folder=series.parent)
    out = tmp_path / "out"
    command = ("infer", series.parent, "-m", explaining_model, "--out", tmp_path / "r.jsonl", "--resume")
    outputs = ("--dicom-sc", out, "--dicom-pm", out, "--dicom-sr", out, "--include-phi")
    outcome = run(*command, *outputs)
    assert outcome.code == 0, outcome.err
    slices = len(list(series.iterdir()))
    pictures = [f"chest_sc_{number:03d}.dcm" for number in range(1, slices + 1)]
    assert names(out) == ["chest_pm.dcm", *pictures, "chest_sr.dcm"]
    assert "--dicom-sc: 1 of 2 scans are no DICOM series and get no secondary captures" in outcome.err
    first, times = uids(out), {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert len(set(first.values())) == slices + 2
    (out / "chest_pm.dcm").unlink()
    assert run(*command, *outputs).code == 0
    assert uids(out) == first
    changed = [path.name for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert changed == ["chest_pm.dcm"], "what is there is not written again"


@pytest.mark.parametrize("option", ["--dicom-sc", "--dicom-pm"])
def test_maps_name_the_patient_so_the_user_must_agree(
    run: Run, series: Path, explaining_model: Path, tmp_path: Path, option: str
) -> None:
    outcome = run("infer", series, "-m", explaining_model, option, tmp_path / "out")
    assert outcome.code == 2
    assert f"{option} writes files that are filed under the patient's name" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_model_without_maps_is_refused(run: Run, series: Path, make_model: MakeModel, tmp_path: Path) -> None:
    outcome = run("infer", series, "-m", make_model(), "--dicom-pm", tmp_path / "out", "--include-phi")
    assert outcome.code == 3
    assert "has no Grad-CAM output" in outcome.err


def test_a_map_that_cannot_be_filed_costs_only_itself(
    run: Run, hu: NDArray[np.int16], explaining_model: Path, tmp_path: Path
) -> None:
    scan = made.write_series(tmp_path / "scans" / "chest", hu, "1.2.3")
    out = tmp_path / "out"
    outcome = run("infer", scan, "-m", explaining_model, "--dicom-sc", out, "--dicom-pm", out, "--include-phi")
    assert outcome.code == 1
    assert "--dicom-pm has no output of 1 scan" in outcome.err
    assert "chest_sc_001.dcm" in names(out)
    assert "chest_pm.dcm" not in names(out)


def test_a_job_writes_them_beside_its_answer(run: Run, series: Path, explaining_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = run("job", "--in", series, "--out", out, "-m", explaining_model, "--dicom-sc", "--dicom-pm")
    assert outcome.code == 0, outcome.err
    assert {"chest_pm.dcm", "chest_sc_001.dcm", "chest_sr.dcm", "result.json"} <= set(names(out))
    assert not list(out.glob("*.nii.gz"))


@pytest.mark.slow
def test_a_node_sends_them_after_its_report(series: Path, explaining_model: Path, tmp_path: Path) -> None:
    node_peers = pytest.importorskip("bench.node_peers", reason="the extra 'node' is not installed")
    for program in ("storescp", "storescu"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt-get install dcmtk)")
    archive, files = node_peers.Archive(tmp_path / "archive").start(), sorted(series.iterdir())
    options = ("--stable-for", "0.5", "--send-to", str(archive.peer), "--dicom-sc", "--dicom-pm")
    node = node_peers.NodeProcess(tmp_path / "spool", explaining_model, *options)
    try:
        node.wait_until_listening()
        assert node_peers.send(node.port, files).returncode == 0
        received = [pydicom.dcmread(path) for path in archive.wait_for_reports(len(files) + 2)]
        kinds = Counter(each.SOPClassUID.name for each in received)
        assert kinds == {
            "Comprehensive 3D SR Storage": 1,
            "Secondary Capture Image Storage": len(files),
            "Parametric Map Storage": 1,
        }
        assert len({each.SOPInstanceUID for each in received}) == len(files) + 2
        node.kill()
        node.restart().wait_until_listening()
        node_peers.wait_for(lambda: not list((tmp_path / "spool" / "outbox").rglob("*.dcm")), "an empty outbox")
    finally:
        node.kill()
        archive.stop()
